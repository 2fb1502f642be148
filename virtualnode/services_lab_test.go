package virtualnode_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/bench/lab"
	"github.com/tessera-k8s/tessera/internal/keys"
)

// lowerAccount is Tessera's account in lower cluster k.
func (w *world) lowerAccount(k int) *rest.Config {
	w.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", clusterFile(w.lab, w.lab.LowerName(k)))
	if err != nil {
		w.Fatal(err)
	}
	return config
}

// service makes one above.
func (w *world) service(name string, change ...func(*corev1.Service)) *corev1.Service {
	w.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}},
		},
	}
	for _, c := range change {
		c(service)
	}
	created, err := w.upper.CoreV1().Services(w.ns).Create(w.Context(), service, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return created
}

// endpoints are those of a Service in lower cluster k that are ready: name of the pod or address, and port.
func (w *world) endpoints(k int, service string) (ready []string, err error) {
	found, err := w.lower(k).DiscoveryV1().EndpointSlices(w.ns).List(w.Context(), metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + service,
	})
	if err != nil {
		return nil, err
	}
	for _, slice := range found.Items {
		for _, endpoint := range slice.Endpoints {
			if !*endpoint.Conditions.Ready {
				continue
			}
			what := endpoint.Addresses[0]
			if endpoint.TargetRef != nil {
				what = endpoint.TargetRef.Name
			}
			if endpoint.Hostname != nil {
				what += "@" + *endpoint.Hostname
			}
			for _, port := range slice.Ports {
				what += fmt.Sprintf(":%d", *port.Port)
			}
			ready = append(ready, what)
		}
	}
	slices.Sort(ready)
	return ready, nil
}

// leadsTo waits until a Service leads to these endpoints in all of the clusters.
func (w *world) leadsTo(service string, clusters []int, want ...string) {
	w.Helper()
	for _, k := range clusters {
		w.eventually(func() error {
			got, err := w.endpoints(k, service)
			if err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("Service %s leads to %v in cluster %d, want %v", service, got, k, want)
			}
			return err
		})
	}
}

// listening gives a pod the port web, and the label app of the Service that selects it.
func listening(app string, port int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Labels["app"] = app
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: port, Protocol: corev1.ProtocolTCP}}
	}
}

// TestServices has a lab of three flat clusters of its own: others leave namespaces in theirs.
func TestServices(t *testing.T) {
	t.Parallel()
	lab.Need(t)
	l, err := lab.Start(t.Context(), lab.Options{
		Lower: 3, Nodes: 2, UpperNodes: 1, Parts: []string{lab.PartVirtualNode},
		Config: map[string]map[string]any{lab.PartVirtualNode: {
			"network": "flat", "hint": "off", "perCluster": map[string]any{"lower-3": map[string]any{"network": "isolated", "networkPolicies": "refuse"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	flat := []int{1, 2}
	for name, story := range map[string]func(*testing.T, *world, []int){
		"follow their pods":      servicesFollowPods,
		"of every kind":          servicesOfEveryKind,
		"of others":              servicesOfOthers,
		"of isolated clusters":   servicesOfIsolatedClusters,
		"of other namespaces":    servicesOfOtherNamespaces,
		"whose cluster is away":  servicesWhoseClusterIsAway,
		"that are not Tessera's": servicesThatAreNotOurs,
		"policies":               policiesOfPods,
		"policies that differ":   policiesThatDiffer,
		"policies that refuse":   policiesThatRefuse,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, l)
			w.patience = 3 * patience // One story kills an API server, whose own controllers come back up to a minute later.
			story(t, w, flat)
		})
	}
}

// Endpoints are the lower pods of all flat clusters, each with its own port, as they are ready below.
func servicesFollowPods(t *testing.T, w *world, flat []int) {
	w.service("web")
	w.create(w.pod("a", 1, listening("web", 8080)))
	w.create(w.pod("b", 2, listening("web", 9090)))
	w.leadsTo("web", flat, "a:8080", "b:9090")
	below, err := w.lower(1).CoreV1().Services(w.ns).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || below.Spec.Selector != nil || below.Spec.ClusterIP == "" {
		t.Errorf("the Service below is %+v, %v", below, err)
	}
	found, err := w.lower(1).DiscoveryV1().EndpointSlices(w.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, slice := range found.Items {
		if slice.Labels[discoveryv1.LabelManagedBy] != "tessera.sh" || len(slice.OwnerReferences) != 1 || slice.OwnerReferences[0].UID != below.UID {
			t.Errorf("a slice of somebody else: %+v", slice.ObjectMeta)
		}
		for _, endpoint := range slice.Endpoints {
			if here := endpoint.TargetRef.Name == "a"; here != (endpoint.NodeName != nil) {
				t.Errorf("endpoint %s is on node %v", endpoint.TargetRef.Name, endpoint.NodeName)
			}
		}
	}

	begin := time.Now()
	pod := w.get(w.lower(2), "b")
	pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse})
	if _, err := w.lower(2).CoreV1().Pods(w.ns).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("web", []int{1}, "a:8080")
	t.Logf("an endpoint that is not ready any more is known elsewhere after %s", time.Since(begin).Round(time.Millisecond))
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("web", flat, "a:8080")

	process := w.lab.Process(lab.PartVirtualNode)
	process.Kill()
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("web", flat)
	if err := w.upper.CoreV1().Services(w.ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.nothingOf("web", flat)
}

// nothingOf waits until neither a Service nor its slices are below.
func (w *world) nothingOf(service string, clusters []int) {
	w.Helper()
	for _, k := range clusters {
		w.eventually(func() error {
			_, err := w.lower(k).CoreV1().Services(w.ns).Get(w.Context(), service, metav1.GetOptions{})
			if err == nil {
				return fmt.Errorf("Service %s is in cluster %d", service, k)
			}
			found, listErr := w.lower(k).DiscoveryV1().EndpointSlices(w.ns).List(w.Context(), metav1.ListOptions{
				LabelSelector: discoveryv1.LabelServiceName + "=" + service,
			})
			if listErr == nil && len(found.Items) > 0 {
				listErr = fmt.Errorf("slices of Service %s are in cluster %d", service, k)
			}
			return errors.Join(ignoreNotFound(err), listErr)
		})
	}
}

// Headless ones with names of pods, others without a selector and with the user's own slices, those that are names, those that change.
func servicesOfEveryKind(t *testing.T, w *world, flat []int) {
	w.service("db", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	w.create(w.pod("db-0", 2, listening("db", 5432), func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "db-0", "db" }))
	w.leadsTo("db", flat, "db-0@db-0:5432")
	below, err := w.lower(1).CoreV1().Services(w.ns).Get(t.Context(), "db", metav1.GetOptions{})
	if err != nil || below.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("the headless Service below is %+v, %v", below, err)
	}

	w.service("outside", func(s *corev1.Service) { s.Spec.Selector = nil })
	name, port, yes := "http", int32(8443), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "outside-1", Labels: map[string]string{discoveryv1.LabelServiceName: "outside"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.7"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
	}
	if slice, err = w.upper.DiscoveryV1().EndpointSlices(w.ns).Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("outside", []int{1, 2}, "192.0.2.7:8443")
	slice.Endpoints[0].Addresses = []string{"192.0.2.8"}
	if _, err := w.upper.DiscoveryV1().EndpointSlices(w.ns).Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("outside", flat, "192.0.2.8:8443")
	if err := w.upper.DiscoveryV1().EndpointSlices(w.ns).Delete(t.Context(), slice.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("outside", flat)

	name1 := w.service("name", func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}
	})
	w.eventually(func() error {
		below, err := w.lower(2).CoreV1().Services(w.ns).Get(t.Context(), "name", metav1.GetOptions{})
		if err == nil && (below.Spec.ExternalName != "example.org" || below.Spec.ClusterIP != "") {
			err = fmt.Errorf("below is %+v", below.Spec)
		}
		return err
	})
	name1.Spec = corev1.ServiceSpec{Selector: map[string]string{"app": "db"}, Ports: []corev1.ServicePort{{Port: 1, NodePort: 30123}}, Type: corev1.ServiceTypeNodePort}
	if _, err := w.upper.CoreV1().Services(w.ns).Update(t.Context(), name1, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("name", flat, "db-0:1")

	// None and an address cannot become each other: the Service is made anew on both sides.
	if err := w.upper.CoreV1().Services(w.ns).Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.service("db", func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true })
	w.eventually(func() error {
		below, err := w.lower(1).CoreV1().Services(w.ns).Get(t.Context(), "db", metav1.GetOptions{})
		if err == nil && below.Spec.ClusterIP == corev1.ClusterIPNone {
			err = errors.New("it is headless still")
		}
		return err
	})
	w.leadsTo("db", flat, "db-0@db-0:5432")
}

// What somebody else made below under the name stays, and the owner of the Service is told; what somebody changes of ours is mended.
func servicesOfOthers(t *testing.T, w *world, _ []int) {
	w.create(w.pod("first", 1)) // It makes the namespace.
	w.becomes(w.upper, "first", "Running", running)
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "taken"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}
	if _, err := w.lower(1).CoreV1().Services(w.ns).Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.service("taken")
	w.service("ours")
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=taken,reason=NameConflict"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("nobody is told that the name is taken")
		}
		return err
	})
	below, err := w.lower(1).CoreV1().Services(w.ns).Get(t.Context(), "taken", metav1.GetOptions{})
	if err != nil || below.Spec.Ports[0].Port != 1 || below.Labels[keys.Upper] != "" {
		t.Errorf("somebody else's Service is %+v, %v", below, err)
	}
	w.eventually(func() error {
		below, err := w.lower(1).CoreV1().Services(w.ns).Get(t.Context(), "ours", metav1.GetOptions{})
		if err != nil {
			return err
		}
		below.Spec.Ports[0].Port = 81
		_, err = w.lower(1).CoreV1().Services(w.ns).Update(t.Context(), below, metav1.UpdateOptions{})
		return err
	})
	w.eventually(func() error {
		below, err := w.lower(1).CoreV1().Services(w.ns).Get(t.Context(), "ours", metav1.GetOptions{})
		if err == nil && below.Spec.Ports[0].Port != 80 {
			err = errors.New("what was changed below is not mended")
		}
		return err
	})
}

// In an isolated cluster a Service is there with the pods of its namespace, and finds those by itself.
func servicesOfIsolatedClusters(t *testing.T, w *world, _ []int) {
	w.service("web")
	w.create(w.pod("a", 1, listening("web", 8080)))
	w.leadsTo("web", []int{1, 2}, "a:8080")
	if _, err := w.lower(3).CoreV1().Services(w.ns).Get(t.Context(), "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("without pods there the Service is in the isolated cluster: %v", err)
	}
	w.create(w.pod("c", 3, listening("web", 7070)))
	w.leadsTo("web", []int{3}, "c:7070")
	w.leadsTo("web", []int{1, 2}, "a:8080")
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.nothingOf("web", []int{3})
}

// Services of all namespaces that opted in are in every flat cluster, whoever has pods there; those of others are nowhere.
func servicesOfOtherNamespaces(t *testing.T, w *world, flat []int) {
	w.service("alone", func(s *corev1.Service) { s.Spec.Selector = nil })
	for _, k := range flat {
		w.eventually(func() error {
			_, err := w.lower(k).CoreV1().Services(w.ns).Get(t.Context(), "alone", metav1.GetOptions{})
			return err
		})
	}
	if _, err := w.lower(1).CoreV1().Namespaces().Get(t.Context(), "kube-public", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	kubernetes, err := w.lower(1).CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil || kubernetes.Labels[keys.Upper] != "" {
		t.Errorf("the Service of the API server is %+v, %v", kubernetes, err)
	}
	if err := w.upper.CoreV1().Namespaces().Delete(t.Context(), w.ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, k := range flat {
		w.eventually(func() error {
			_, err := w.lower(k).CoreV1().Namespaces().Get(t.Context(), w.ns, metav1.GetOptions{})
			if err == nil {
				return fmt.Errorf("the namespace is still in cluster %d", k)
			}
			return ignoreNotFound(err)
		})
	}
}

// A cluster that falls silent drops out of the endpoints, and is back when it answers.
func servicesWhoseClusterIsAway(t *testing.T, w *world, _ []int) {
	w.service("web")
	w.create(w.pod("a", 1, listening("web", 8080)))
	w.create(w.pod("b", 2, listening("web", 9090)))
	w.leadsTo("web", []int{1}, "a:8080", "b:9090")
	process := w.lab.Process(w.lab.LowerName(2) + "/apiserver")
	process.Kill()
	w.leadsTo("web", []int{1}, "a:8080")
	if err := process.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.leadsTo("web", []int{1}, "a:8080", "b:9090")
}

// The policy of the installation keeps Tessera's account from all Services and slices but its own.
func servicesThatAreNotOurs(t *testing.T, w *world, _ []int) {
	w.create(w.pod("first", 1)) // It makes the namespace.
	w.becomes(w.upper, "first", "Running", running)
	us := client(t, w.lowerAccount(1))
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}
	_, err := us.CoreV1().Services(w.ns).Create(t.Context(), service, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "label tessera.sh/upper") {
		t.Errorf("a Service without our mark: %v", err)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "mine", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes", keys.Upper: "x"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{},
	}
	if _, err = us.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a slice of somebody else's Service: %v", err)
	}
	if err := us.CoreV1().Services("default").Delete(t.Context(), "kubernetes", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("deleting somebody else's Service: %v", err)
	}
}

// A policy holds where its pods are: it lets in pods of other clusters by their addresses, and nobody else; it is there before the pods.
func policiesOfPods(t *testing.T, w *world, _ []int) {
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "db"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
				{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
			}}},
		},
	}
	if _, err := w.upper.NetworkingV1().NetworkPolicies(w.ns).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second)
	w.create(w.pod("db", 1, listening("db", 5432)))
	w.becomes(w.upper, "db", "Running", running)
	lets := func(k int, names ...string) *networkingv1.NetworkPolicy {
		t.Helper()
		var below *networkingv1.NetworkPolicy
		w.eventually(func() (err error) {
			var want []string
			for _, name := range names { // As it is now: who plays the kubelet may give a pod another address right after its start.
				want = append(want, w.get(w.lower(2), name).Status.PodIP+"/32")
			}
			below, err = w.lower(k).NetworkingV1().NetworkPolicies(w.ns).Get(t.Context(), "db", metav1.GetOptions{})
			if err != nil {
				return err
			}
			var got []string
			for _, peer := range below.Spec.Ingress[0].From {
				if peer.IPBlock != nil {
					got = append(got, peer.IPBlock.CIDR)
				}
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("the policy lets in %v, want %v", got, want)
			}
			return nil
		})
		return below
	}
	below := lets(1)
	if pod := w.get(w.lower(1), "db"); pod.CreationTimestamp.Before(&below.CreationTimestamp) {
		t.Errorf("the policy came at %s, after its pod at %s", below.CreationTimestamp, pod.CreationTimestamp)
	}
	if _, err := w.lower(2).NetworkingV1().NetworkPolicies(w.ns).Get(t.Context(), "db", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("without pods there the policy is in the second cluster: %v", err)
	}
	w.create(w.pod("web", 2, listening("web", 80)))
	w.create(w.pod("other", 2, listening("other", 80)))
	w.becomes(w.lower(2), "web", "Running", running)
	lets(1, "web")
	lets(2)
	if err := w.upper.CoreV1().Pods(w.ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lets(1)
	if err := w.upper.NetworkingV1().NetworkPolicies(w.ns).Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []int{1, 2} {
		w.eventually(func() error {
			_, err := w.lower(k).NetworkingV1().NetworkPolicies(w.ns).Get(t.Context(), "db", metav1.GetOptions{})
			if err == nil {
				return fmt.Errorf("the policy is still in cluster %d", k)
			}
			return ignoreNotFound(err)
		})
	}
}

// What cannot mean the same is told on the policy and on the Node; fewer are let in, never more.
func policiesThatDiffer(t *testing.T, w *world, _ []int) {
	stays := map[string]string{keys.Enabled: "true"}
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "odd"},
		Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{
			{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: stays}}}},
		}},
	}
	if _, err := w.upper.NetworkingV1().NetworkPolicies(w.ns).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.create(w.pod("pod", 1))
	w.becomes(w.upper, "pod", "Running", running)
	w.eventually(func() error {
		below, err := w.lower(1).NetworkingV1().NetworkPolicies(w.ns).Get(t.Context(), "odd", metav1.GetOptions{})
		if err == nil && len(below.Spec.Ingress) > 0 {
			err = fmt.Errorf("it lets in %+v", below.Spec.Ingress)
		}
		return err
	})
	w.eventually(func() error {
		events, err := w.upper.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=odd,reason=NotTheSame"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("nobody is told that the policy does not mean the same")
		}
		return err
	})
	w.eventually(func() error {
		node, err := w.upper.CoreV1().Nodes().Get(t.Context(), w.lab.LowerName(1), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := nodeCondition(node, keys.PoliciesMirrored); c.Reason != "NotTheSame" || !strings.Contains(c.Message, w.ns+"/odd") {
			return fmt.Errorf("the Node says %+v", c)
		}
		return nil
	})
}

// Where it is configured so, a pod does not come whose policy cannot mean the same there; others do.
func policiesThatRefuse(t *testing.T, w *world, _ []int) {
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "odd"},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "selected"}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
				{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{keys.Enabled: "true"}}},
			}}},
		},
	}
	if _, err := w.upper.NetworkingV1().NetworkPolicies(w.ns).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second)
	w.create(w.pod("selected", 3))
	w.create(w.pod("other", 3))
	w.becomes(w.upper, "other", "Running", running)
	w.becomes(w.upper, "selected", "told of the policy", func(p *corev1.Pod) bool {
		c := conditionOf(p.Status.Conditions, keys.LowerPlaced)
		return c.Reason == string(keys.NetworkPolicy) && strings.Contains(c.Message, "odd")
	})
	if _, err := w.lower(3).CoreV1().Pods(w.ns).Get(t.Context(), "selected", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pod is below: %v", err)
	}
}
