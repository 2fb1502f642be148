package translate

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// ManagedBy is what slices that Tessera writes are labelled with, as those of a controller.
const ManagedBy = "tessera.sh"

// forProxies begins the labels and annotations of a Service that speak to whoever leads packets to its endpoints.
const forProxies = "service.kubernetes.io/"

// LowerService returns the Service as it is kept in a lower cluster. Where its endpoints are in several clusters it has no selector
// there: the slices say where they are. What becomes of each field, and why, is in testdata/objects.txt.
func LowerService(upper *corev1.Service, target Target, keepSelector bool) *corev1.Service {
	spec := upper.Spec.DeepCopy()
	lower := &corev1.Service{ObjectMeta: objectMeta(upper, target), Spec: corev1.ServiceSpec{
		Ports: spec.Ports, Type: spec.Type, ExternalName: spec.ExternalName,
		SessionAffinity: spec.SessionAffinity, SessionAffinityConfig: spec.SessionAffinityConfig,
		PublishNotReadyAddresses: spec.PublishNotReadyAddresses, IPFamilies: spec.IPFamilies, IPFamilyPolicy: spec.IPFamilyPolicy,
		InternalTrafficPolicy: spec.InternalTrafficPolicy, TrafficDistribution: spec.TrafficDistribution,
	}}
	proxies := func(key, _ string) bool { return !strings.HasPrefix(key, forProxies) }
	for from, to := range map[*map[string]string]*map[string]string{&upper.Labels: &lower.Labels, &upper.Annotations: &lower.Annotations} {
		kept := maps.Clone(*from)
		maps.DeleteFunc(kept, proxies)
		maps.Copy(*to, kept)
	}
	if lower.Spec.Type != corev1.ServiceTypeExternalName {
		lower.Spec.Type = corev1.ServiceTypeClusterIP
	}
	if Headless(upper) {
		lower.Spec.ClusterIP = corev1.ClusterIPNone
	}
	if keepSelector {
		lower.Spec.Selector = spec.Selector
	}
	for i := range lower.Spec.Ports {
		lower.Spec.Ports[i].NodePort = 0
	}
	return lower
}

// Headless reports whether a Service has no address of its own.
func Headless(service *corev1.Service) bool { return service.Spec.ClusterIP == corev1.ClusterIPNone }

// LowerSlice returns a slice of the upper cluster as it is kept in a lower one, for the lower Service that it belongs to, with those of
// its endpoints that keep says. Nodes are those of another cluster, and so are hints.
func LowerSlice(
	upper *discoveryv1.EndpointSlice, service *corev1.Service, target Target, keep func(*discoveryv1.Endpoint) bool,
) *discoveryv1.EndpointSlice {
	copied := upper.DeepCopy()
	lower := &discoveryv1.EndpointSlice{ObjectMeta: objectMeta(upper, target), AddressType: copied.AddressType, Ports: copied.Ports}
	lower.Labels[discoveryv1.LabelServiceName], lower.Labels[discoveryv1.LabelManagedBy] = service.Name, ManagedBy
	if Headless(service) {
		lower.Labels[corev1.IsHeadlessService] = ""
	}
	lower.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))}
	for i := range copied.Endpoints {
		if endpoint := &copied.Endpoints[i]; keep(endpoint) {
			endpoint.NodeName, endpoint.Hints, endpoint.TargetRef = nil, nil, nil
			lower.Endpoints = append(lower.Endpoints, *endpoint)
		}
	}
	return lower
}

// Mirrored reports whether a lower slice is the copy of an upper one, and not made from pods.
func Mirrored(slice *discoveryv1.EndpointSlice) bool { return slice.Annotations[keys.UpperUID] != "" }
