package translate

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestEveryFieldOfObjects gives every field of a ConfigMap and a Secret a value, and compares what becomes of it with
// testdata/objects.txt: a field that is new in a version of Kubernetes fails until somebody decides.
func TestEveryFieldOfObjects(t *testing.T) {
	t.Parallel()
	decided := map[string]string{}
	text, err := os.ReadFile("testdata/objects.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if columns := strings.Split(line, "|"); len(columns) > 1 && !strings.HasPrefix(line, "#") {
			decided[strings.TrimSpace(columns[0])] = strings.TrimSpace(columns[1])
			if len(columns) < 3 && strings.TrimSpace(columns[1]) != "kept" {
				t.Errorf("%s: say why, in a third column", columns[0])
			}
		}
	}
	used := map[string]bool{}
	check := func(above, below any, kind string) {
		from, to := reflect.ValueOf(above).Elem(), reflect.ValueOf(below).Elem()
		for i := range from.NumField() {
			name, _, _ := strings.Cut(from.Type().Field(i).Tag.Get("json"), ",")
			if name == "" || name == "metadata" {
				continue
			}
			key := kind + "." + name
			used[key] = true
			kept, dropped := reflect.DeepEqual(from.Field(i).Interface(), to.Field(i).Interface()), to.Field(i).IsZero()
			if name == "selfLink" { // Deprecated, and never set.
				continue
			}
			if from.Field(i).IsZero() {
				t.Errorf("%s has no value in the test", key)
			}
			if want := decided[key]; (want == "kept") != kept || (want == "dropped") != dropped || want == "" || want == "ours" && (kept || dropped) {
				t.Errorf("%s: %q is decided, it is kept: %t, dropped: %t", key, want, kept, dropped)
			}
		}
	}
	meta := metav1.ObjectMeta{
		Name: "n", GenerateName: "g", Namespace: "ns", UID: "u", ResourceVersion: "1", Generation: 1, CreationTimestamp: metav1.Now(),
		DeletionTimestamp: new(metav1.Now()), DeletionGracePeriodSeconds: new(int64(1)), Labels: map[string]string{"a": "b"},
		Annotations: map[string]string{"a": "b"}, Finalizers: []string{"f"}, OwnerReferences: []metav1.OwnerReference{{Name: "o"}},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}
	bytes := map[string][]byte{"b": {0, 255}}
	target := Target{Identity: "us", VirtualNode: "v", Rules: Rules{NamespacePrefix: "t-"}}
	cm := &corev1.ConfigMap{ObjectMeta: meta, Immutable: new(true), Data: map[string]string{"a": "b"}, BinaryData: bytes}
	lowerMap := LowerConfigMap(cm, target)
	check(cm, lowerMap, "ConfigMap")
	check(&cm.ObjectMeta, &lowerMap.ObjectMeta, "ObjectMeta")
	secret := &corev1.Secret{
		ObjectMeta: meta, Immutable: new(true), Data: bytes, StringData: map[string]string{"a": "b"}, Type: corev1.SecretTypeTLS,
	}
	lowerSecret, err := LowerSecret(secret, target)
	if err != nil {
		t.Fatal(err)
	}
	check(secret, lowerSecret, "Secret")
	check(&secret.ObjectMeta, &lowerSecret.ObjectMeta, "ObjectMeta")
	service := everyService(meta)
	lowerService := LowerService(service, target, true)
	check(&service.ObjectMeta, &lowerService.ObjectMeta, "ObjectMeta")
	check(&service.Spec, &lowerService.Spec, "ServiceSpec")
	check(&service.Spec.Ports[0], &lowerService.Spec.Ports[0], "ServicePort")
	slice := everySlice(meta)
	lowerSlice := LowerSlice(slice, service, target, func(*discoveryv1.Endpoint) bool { return true })
	check(&slice.Endpoints[0], &lowerSlice.Endpoints[0], "Endpoint")
	for key := range decided {
		if !used[key] {
			t.Errorf("%s: there is no such field: take the line out", key)
		}
	}
}

func TestAccountTokensStayAbove(t *testing.T) {
	t.Parallel()
	_, err := LowerSecret(&corev1.Secret{Type: corev1.SecretTypeServiceAccountToken}, Target{})
	if !errors.Is(err, ErrAccountToken) {
		t.Errorf("got %v", err)
	}
}

// everyService has a value in every field.
func everyService(meta metav1.ObjectMeta) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Ports: []corev1.ServicePort{{
			Name: "http", Protocol: "TCP", AppProtocol: new("http"), Port: 80, TargetPort: intstr.FromString("web"), NodePort: 30000,
		}},
		Selector: map[string]string{"app": "web"}, ClusterIP: "192.0.2.1", ClusterIPs: []string{"192.0.2.1"}, Type: corev1.ServiceTypeLoadBalancer,
		ExternalIPs: []string{"192.0.2.2"}, SessionAffinity: corev1.ServiceAffinityClientIP, LoadBalancerIP: "192.0.2.3",
		LoadBalancerSourceRanges: []string{"192.0.2.0/24"}, ExternalName: "example.org", ExternalTrafficPolicy: "Local", HealthCheckNodePort: 30001,
		PublishNotReadyAddresses: true, SessionAffinityConfig: &corev1.SessionAffinityConfig{}, IPFamilies: []corev1.IPFamily{"IPv4"},
		IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack), AllocateLoadBalancerNodePorts: new(true), LoadBalancerClass: new("x"),
		InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyLocal), TrafficDistribution: new("PreferClose"),
	}}
}

func everySlice(meta metav1.ObjectMeta) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: "IPv4", Endpoints: []discoveryv1.Endpoint{{
		Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}, Hostname: new("web-0"),
		TargetRef: &corev1.ObjectReference{Kind: "Pod"}, DeprecatedTopology: map[string]string{"a": "b"}, NodeName: new("n"), Zone: new("z"),
		Hints: &discoveryv1.EndpointHints{},
	}}}
}

// A Service loses its selector where its pods are in several clusters; what speaks to proxies stays on it; types of Services that lead
// into a cluster from outside are for the upper one.
func TestLowerService(t *testing.T) {
	t.Parallel()
	target := Target{Identity: "us"}
	meta := metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: map[string]string{"service.kubernetes.io/service-proxy-name": "x", "app": "web"},
		Annotations: map[string]string{"service.kubernetes.io/topology-mode": "Auto", "service.beta.kubernetes.io/aws-load-balancer-type": "nlb"}}
	service := everyService(meta)
	lower := LowerService(service, target, false)
	if lower.Spec.Selector != nil || lower.Spec.Type != corev1.ServiceTypeClusterIP || lower.Spec.ClusterIP != "" {
		t.Errorf("below is %+v", lower.Spec)
	}
	if lower.Labels["service.kubernetes.io/service-proxy-name"] != "x" || lower.Labels["app"] != "" ||
		lower.Annotations["service.kubernetes.io/topology-mode"] != "Auto" || len(lower.Annotations) != 4 {
		t.Errorf("below is %+v", lower.ObjectMeta)
	}
	service.Spec.ClusterIP = corev1.ClusterIPNone
	if lower = LowerService(service, target, false); !Headless(lower) {
		t.Error("a headless Service has an address below")
	}
	service.Spec.Type = corev1.ServiceTypeExternalName
	if lower = LowerService(service, target, false); lower.Spec.Type != corev1.ServiceTypeExternalName || lower.Spec.ExternalName != "example.org" {
		t.Errorf("below is %+v", lower.Spec)
	}
}
