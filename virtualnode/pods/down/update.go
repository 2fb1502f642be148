package down

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/pair"
)

// changeable are the fields of a lower pod that follow the upper one after the creation.
type changeable struct {
	Labels, Annotations map[string]string
	Images              []string
	ActiveDeadline      *int64
	Tolerations         []corev1.Toleration
}

// Stamp notes on a translated pod what its changeable fields are, and what its whole spec is. Comparing the note, instead of
// the fields, leaves alone what the lower cluster's own admission made of them, and works after a restart.
func Stamp(lower *corev1.Pod) {
	fields := changeable{
		Labels: lower.Labels, Annotations: lower.Annotations,
		ActiveDeadline: lower.Spec.ActiveDeadlineSeconds, Tolerations: timeless(lower.Spec.Tolerations),
	}
	for _, containers := range [][]corev1.Container{lower.Spec.InitContainers, lower.Spec.Containers} {
		for i := range containers {
			fields.Images = append(fields.Images, containers[i].Image)
		}
	}
	spec := lower.Spec
	spec.EphemeralContainers = nil // Part of no pod when it is made.
	spec.Tolerations = fields.Tolerations
	made := note{
		fields: sum(fields), sizes: sum(sizesOf(&lower.Spec)), spec: sum(spec),
		labels: usersKeys(lower.Labels), annotations: usersKeys(lower.Annotations),
	}
	made.leave(lower)
}

// sum is a checksum of fields that JSON can hold.
func sum(fields any) string {
	text, _ := json.Marshal(fields) // API types marshal always; map keys come sorted.
	sum := fnv.New64a()
	sum.Write(text)
	return strconv.FormatUint(sum.Sum64(), 36)
}

// timeless are tolerations without their times, which stay below as they were at the creation, and without those of nodes that are
// out of reach: every API server adds them to every pod, and above they speak of the virtual node.
func timeless(tolerations []corev1.Toleration) []corev1.Toleration {
	all := slices.DeleteFunc(slices.Clone(tolerations), func(t corev1.Toleration) bool {
		return (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable) &&
			t.Operator == corev1.TolerationOpExists && t.Effect == corev1.TaintEffectNoExecute
	})
	if len(all) == 0 {
		return nil
	}
	for i := range all {
		all[i].TolerationSeconds = nil
	}
	return all
}

// BringDown carries changes of the upper pod to the lower one: first those that have calls of their own and may be refused,
// then the rest together with the notes of what is below.
func (c Changes) BringDown(ctx context.Context, upper, lower *corev1.Pod, memory *Memory) error {
	if memory.noted == lower.Annotations[keys.BroughtDown] && sameBelow(memory.sent, upper) && len(memory.refused) == 0 {
		memory.sent = upper
		return nil
	}
	plain := *upper
	plain.Spec.EphemeralContainers = nil // One that is not let through must not keep the rest from coming down.
	wanted, err := translate.LowerPod(&plain, c.Target())
	if err != nil {
		return fmt.Errorf("bringing changes down: %w", err)
	}
	Stamp(wanted)
	sized, err := c.resize(ctx, upper, lower, wanted, memory)
	if !sized {
		made := noteOf(wanted)
		made.sizes = noteOf(lower).sizes // As yet.
		made.leave(wanted)
	}
	err = errors.Join(err, c.bringEphemeral(ctx, upper, lower, memory), c.bringFields(ctx, upper, lower, wanted, memory))
	if err == nil && len(memory.refused) == 0 {
		memory.sent, memory.noted = upper, lower.Annotations[keys.BroughtDown]
	}
	return err
}

// sameBelow reports whether two versions of an upper pod make the same lower pod: they differ in what comes from below alone.
func sameBelow(a, b *corev1.Pod) bool {
	if a == nil || a == b {
		return a == b
	}
	return a.Generation == b.Generation && maps.Equal(a.Labels, b.Labels) &&
		maps.Equal(withoutFacts(a.Annotations), withoutFacts(b.Annotations)) && equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

// withoutFacts are annotations but for those that report writes.
func withoutFacts(annotations map[string]string) map[string]string {
	rest := maps.Clone(annotations)
	delete(rest, keys.LowerNode)
	delete(rest, keys.LowerIP)
	delete(rest, keys.Tolerations)
	delete(rest, corev1.PodDeletionCost)
	return rest
}

// bringFields carries the fields that a plain update may change.
func (c Changes) bringFields(ctx context.Context, upper, lower, wanted *corev1.Pod, memory *Memory) error {
	made, before := noteOf(wanted), noteOf(lower)
	if made.fields == before.fields && made.sizes == before.sizes {
		delete(memory.refused, changeFields)
		return nil
	}
	if memory.waits(changeFields, made.fields) {
		return nil
	}
	patch, err := changes(lower, wanted, memory.sent)
	if err != nil {
		return err
	}
	_, err = c.Lower.Pods(lower.Namespace).Patch(ctx, lower.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return c.answered(changeFields, made.fields, upper, memory, err)
}

// changes returns the patch that gives the lower pod the changeable fields of wanted. Labels and annotations that were brought
// down and have been taken off above since are taken off, too: what they were is noted on the lower pod. before is the upper pod
// as it was last brought down, if known.
func changes(lower, wanted, before *corev1.Pod) ([]byte, error) {
	after := lower.DeepCopy()
	after.Labels = merged(lower.Labels, wanted.Labels)
	after.Annotations = merged(lower.Annotations, wanted.Annotations)
	made := noteOf(lower)
	dropMissing(after.Labels, made.labels, wanted.Labels)
	dropMissing(after.Annotations, append(made.annotations, keys.UpperGeneration), wanted.Annotations)
	if before == nil || !sameImages(before, wanted) { // Else what the lower cluster's own admission made of them stays.
		setImages(after.Spec.InitContainers, wanted.Spec.InitContainers)
		setImages(after.Spec.Containers, wanted.Spec.Containers)
	}
	after.Spec.ActiveDeadlineSeconds = wanted.Spec.ActiveDeadlineSeconds
	for _, toleration := range wanted.Spec.Tolerations {
		if !slices.ContainsFunc(after.Spec.Tolerations, func(t corev1.Toleration) bool { return t.MatchToleration(&toleration) }) {
			after.Spec.Tolerations = append(after.Spec.Tolerations, toleration)
		}
	}
	lower = lower.DeepCopy()
	lower.UID = "" // So that the patch names it: it is for this very pod.
	patch, err := pair.TwoWay(lower, after)
	if err != nil {
		return nil, fmt.Errorf("bringing changes down: %w", err)
	}
	return patch, nil
}

func merged(base, over map[string]string) map[string]string {
	all := make(map[string]string, len(base)+len(over))
	maps.Copy(all, base)
	maps.Copy(all, over)
	return all
}

// dropMissing takes those keys off that were sent before and are not wanted any more.
func dropMissing(from map[string]string, before []string, wanted map[string]string) {
	for _, key := range before {
		if _, ok := wanted[key]; !ok {
			delete(from, key)
		}
	}
}

func sameImages(a, b *corev1.Pod) bool {
	images := func(c, d corev1.Container) bool { return c.Name == d.Name && c.Image == d.Image }
	return slices.EqualFunc(a.Spec.InitContainers, b.Spec.InitContainers, images) &&
		slices.EqualFunc(a.Spec.Containers, b.Spec.Containers, images)
}

func setImages(containers, wanted []corev1.Container) {
	for i := range containers {
		for j := range wanted {
			if wanted[j].Name == containers[i].Name {
				containers[i].Image = wanted[j].Image
			}
		}
	}
}
