package exact_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/tessera-k8s/tessera/internal/exact"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/snapshot"
)

// scenario is a question that both truths can be asked. A file in testdata is one, with the nodes that take the pod.
type scenario struct {
	Version    string              `json:"version,omitempty"` // of the cluster's scheduler; the newest if left out
	Namespaces []*corev1.Namespace `json:"namespaces,omitempty"`
	Nodes      []*corev1.Node      `json:"nodes,omitempty"`
	Pods       []*corev1.Pod       `json:"pods,omitempty"` // in the cluster
	Held       []*corev1.Pod       `json:"held,omitempty"` // on their way to the node that their spec names
	Pod        *corev1.Pod         `json:"pod,omitempty"`  // asks
}

// plugins gives the scenario to kube-scheduler's plugins, to whom a pod on its way is as good as there.
func (c *scenario) plugins() (*exact.Cluster, error) {
	version, err := c.version()
	if err != nil {
		return nil, err
	}
	return exact.NewCluster(exact.Objects{Version: version, Namespaces: c.Namespaces, Nodes: c.Nodes, Pods: slices.Concat(c.Pods, c.Held)})
}

func (c *scenario) version() (snapshot.Version, error) {
	if c.Version == "" {
		return snapshot.Version{}, nil
	}
	return snapshot.ParseVersion(c.Version)
}

// lower is the name of the cluster that a scenario's pool has.
const lower = "lower"

// pool gives the scenario to internal/snapshot.
func (c *scenario) pool() *snapshot.Pool {
	pool := snapshot.NewPool()
	c.publish(pool, map[string]seen{})
	for _, pod := range c.Held {
		hold(pool, pod)
	}
	return pool
}

// seen is a node as it was published last, and the pods on it.
type seen struct {
	node *snapshot.Node
	pods []*corev1.Pod
}

// publish gives a pool the nodes and pods as they are now. Like internal/lower it makes those nodes anew on which a pod has
// come or gone; known remembers the others.
func (c *scenario) publish(pool *snapshot.Pool, known map[string]seen) {
	content := snapshot.Content{Cluster: lower, Own: map[types.UID]*snapshot.LowerPod{}}
	content.Namespaces = snapshot.Namespaces{}
	content.Version, _ = c.version() // The plugins are asked, too, and say so.
	for _, space := range c.Namespaces {
		content.Namespaces[space.Name] = space.Labels
	}
	for _, node := range c.Nodes {
		on := slices.DeleteFunc(slices.Clone(c.Pods), func(pod *corev1.Pod) bool { return pod.Spec.NodeName != node.Name })
		before, ok := known[node.Name]
		if !ok || !slices.Equal(before.pods, on) {
			var pods []*snapshot.LowerPod
			for _, pod := range on {
				pods = append(pods, snapshot.NewLowerPod(pod, ""))
			}
			before = seen{snapshot.NewNode(node, pods), on}
			known[node.Name] = before
		}
		content.Nodes = append(content.Nodes, before.node)
	}
	pool.Publish(time.Time{}, snapshot.New(content))
}

func hold(pool *snapshot.Pool, pod *corev1.Pod) {
	asked := pod.DeepCopy()
	asked.Spec.NodeName = ""
	pool.Offer(time.Unix(0, 0), pod.UID, snapshot.Info{Name: pod.Name}, snapshot.NewPod(asked), snapshot.Verdict{Cluster: lower, Fits: true, Node: pod.Spec.NodeName})
}

// verdicts is what both truths say of one pod, node by node.
type verdicts struct {
	ours   map[string]keys.Reason // "" for a node that takes the pod
	judge  snapshot.Verdict
	theirs map[string]exact.Refusal // without the nodes that take the pod
	// unusable are nodes that are ours alone to leave out: one that has just stopped may not have its taint yet, and one
	// that an autoscaler removes is no place for a pod that tolerates the taint.
	unusable map[string]bool
}

// ask asks both truths about pod.
func ask(ctx context.Context, pool *snapshot.Pool, plugins *exact.Cluster, pod *corev1.Pod) (verdicts, error) {
	asked := snapshot.NewPod(pod)
	v := verdicts{ours: pool.Takes(lower, asked, pod.UID), judge: pool.Judge(lower, asked, pod.UID), unusable: map[string]bool{}}
	var err error
	if _, v.theirs, err = plugins.Filter(ctx, pod); err != nil {
		return v, err
	}
	for _, node := range pool.Snapshot(lower).Nodes {
		v.unusable[node.Name()] = !node.Ready || node.Leaving
	}
	return v, nil
}

// fits lists the nodes that should take the pod: those that the plugins accept and that are usable.
func (v *verdicts) fits() []string {
	names := []string{}
	for _, name := range slices.Sorted(maps.Keys(v.ours)) {
		if _, refused := v.theirs[name]; !refused && !v.unusable[name] {
			names = append(names, name)
		}
	}
	return names
}

// difference is "" if the truths agree on every node, and Judge with them.
func (v *verdicts) difference() string {
	var lines []string
	fits := v.fits()
	for _, name := range slices.Sorted(maps.Keys(v.ours)) {
		if ours := v.ours[name]; (ours == "") != slices.Contains(fits, name) {
			lines = append(lines, fmt.Sprintf("node %s: snapshot says %q, plugins %q (\"\" is yes)", name, ours, v.say(name)))
		}
	}
	if v.judge.Fits != (len(fits) > 0) || v.judge.Fits && !slices.Contains(fits, v.judge.Node) {
		lines = append(lines, fmt.Sprintf("Judge: %+v, plugins accept %v", v.judge, fits))
	}
	return strings.Join(lines, "\n")
}

func (v *verdicts) say(name string) string {
	if refusal, refused := v.theirs[name]; refused {
		return refusal.String()
	}
	return ""
}

// ask asks both truths from scratch.
func (c *scenario) ask(ctx context.Context) (verdicts, error) {
	plugins, err := c.plugins()
	if err != nil {
		return verdicts{}, err
	}
	return ask(ctx, c.pool(), plugins, c.Pod)
}

// disagrees reports whether the scenario is one that can be and shows a difference between the truths.
func (c *scenario) disagrees(ctx context.Context) bool {
	if c.possible() != nil {
		return false
	}
	v, err := c.ask(ctx)
	return err == nil && v.difference() != ""
}

// possible says what API servers would not have, or nil.
func (c *scenario) possible() error {
	spaces := map[string]bool{}
	for _, space := range c.Namespaces {
		spaces[space.Name] = space.Labels[corev1.LabelMetadataName] == space.Name
	}
	if c.Pod == nil {
		return errors.New("no pod asks")
	}
	for _, pod := range slices.Concat(c.Pods, c.Held, []*corev1.Pod{c.Pod}) {
		if !spaces[pod.Namespace] {
			return fmt.Errorf("pod %s: its namespace does not exist, or without the label that all have", pod.Name)
		}
		if err := acceptable(pod); err != nil {
			return err
		}
	}
	return nil
}

// known is a scenario and which nodes take the pod.
type known struct {
	Fits     []string `json:"fits"`
	scenario `json:",inline"`
}

// text is the scenario as a file for testdata.
func (c *scenario) text(fits []string) string {
	var tree map[string]any
	through(known{Fits: fits, scenario: *c}, &tree)
	prune(tree)
	out, err := yaml.Marshal(tree)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// unasked are fields that JSON prints of an object that does not have them. An empty selector means something: it stays.
var unasked = []string{"status", "spec", "resources"}

func prune(value any) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			prune(element)
		}
	case map[string]any:
		for key, field := range value {
			prune(field)
			object, isObject := field.(map[string]any)
			if field == nil || isObject && len(object) == 0 && slices.Contains(unasked, key) || key == "nodeInfo" || key == "daemonEndpoints" {
				delete(value, key)
			}
		}
	}
}

// Every file in testdata is a case that was wrong once, or that a reader should know. Put a new one there as the
// differential test prints it, with a comment that says what it shows.
func TestKnownCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c known
			if err := yaml.UnmarshalStrict(text, &c); err != nil {
				t.Fatal(err)
			}
			if err := c.possible(); err != nil {
				t.Fatal(err)
			}
			v, err := c.ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if difference := v.difference(); difference != "" {
				t.Error(difference)
			}
			if diff := cmp.Diff(c.Fits, v.fits()); diff != "" {
				t.Errorf("nodes that take the pod differ (-want +got):\n%s", diff)
			}
		})
	}
}
