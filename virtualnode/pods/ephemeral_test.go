package pods

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func debugged(names ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for _, name := range names {
			pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "shell"}, TargetContainerName: "c",
			})
		}
	}
}

// Ephemeral containers come down, each once, and what the lower cluster has of its own stays.
func TestEphemeralContainers(t *testing.T) {
	t.Parallel()
	privileged := func(pod *corev1.Pod) {
		yes := true
		pod.Spec.EphemeralContainers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
	}
	for name, c := range map[string]struct {
		upper []func(*corev1.Pod)
		lower func(*corev1.Pod)
		want  []string
		event string
	}{
		"none":              {nil, debugged(), nil, ""},
		"one":               {[]func(*corev1.Pod){debugged("a")}, debugged(), []string{"a"}, ""},
		"a second":          {[]func(*corev1.Pod){debugged("a", "b")}, debugged("a"), []string{"a", "b"}, ""},
		"there already":     {[]func(*corev1.Pod){debugged("a")}, debugged("a"), []string{"a"}, ""},
		"beside a stranger": {[]func(*corev1.Pod){debugged("a")}, debugged("theirs"), []string{"theirs", "a"}, ""},
		"not let through":   {[]func(*corev1.Pod){debugged("a"), privileged}, debugged(), nil, "privileged is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upper := upperPod("1", c.upper...)
			lower := translated(t, upperPod("1"))
			lower.UID = "below"
			c.lower(lower)
			b := newBed(t, []runtime.Object{upper}, []runtime.Object{lower})
			for range 2 {
				b.sees(t)
				if err := b.step(t); err != nil {
					t.Fatal(err)
				}
			}
			writes := calls(b.lower)
			b.sees(t)
			var got []string
			for _, container := range b.podBelow("ns/p", nil).Spec.EphemeralContainers {
				got = append(got, container.Name)
			}
			if diff := cmp.Diff(c.want, got, cmp.Transformer("set", set)); diff != "" {
				t.Error(diff)
			}
			if n := strings.Count(strings.Join(writes, " "), "ephemeralcontainers"); n > 1 {
				t.Errorf("written %d times", n)
			}
			event := ""
			select {
			case event = <-b.events.Events:
			default:
			}
			if (c.event == "") != (event == "") || !strings.Contains(event, c.event) {
				t.Errorf("event %q, want %q", event, c.event)
			}
		})
	}
}

func set(names []string) map[string]bool {
	all := map[string]bool{}
	for _, name := range names {
		all[name] = true
	}
	return all
}
