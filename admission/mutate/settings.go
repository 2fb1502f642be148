package mutate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/seal"
)

// Settings are what admission gives to pods beside what they say themselves. An annotation of the pod wins over one of its namespace, and
// that over these.
type Settings struct {
	// Policy is one of only, prefer, overflow; "" is only.
	Policy string
	// ClusterOrder names clusters; the first that has room is taken.
	ClusterOrder []string
	// Architecture is that of the lower nodes for pods that name none, as the label kubernetes.io/arch has it; "" is any.
	Architecture string
	// SchedulerName is given to marked pods that name no scheduler or the default one; "" leaves theirs.
	SchedulerName string
	// Schedulers are others that ask the extender. Where either is set, a pod that goes to any other scheduler is denied.
	Schedulers []string
	// UpperKeys are labels beside those of tessera.sh/ that speak of clusters.
	UpperKeys []string
	// Standard is the time that the upper API server has pods tolerate a node that is out of reach if they say nothing: a virtual node
	// that is unreachable only lacks its virtualnode for a while, and what runs on it runs on.
	Standard time.Duration
	// Namespace returns the annotations of a namespace; nil where nobody can say.
	Namespace func(name string) (map[string]string, error)
}

// Validate reports every fault at once, by the keys of the configuration.
func (s Settings) Validate() error {
	var errs []error
	if s.Policy != "" {
		if err := validPolicy(s.Policy); err != nil {
			errs = append(errs, fmt.Errorf("policy: %w", err))
		}
	}
	if err := validOrder(s.ClusterOrder); err != nil {
		errs = append(errs, fmt.Errorf("clusterOrder: %w", err))
	}
	if err := validArchitecture(s.Architecture); err != nil {
		errs = append(errs, fmt.Errorf("architecture: %w", err))
	}
	for _, key := range s.UpperKeys {
		if problems := validation.IsQualifiedName(key); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("upperKeys: %q is no label key: %s", key, strings.Join(problems, ", ")))
		}
	}
	if s.Standard < 0 {
		errs = append(errs, fmt.Errorf("defaultToleration: %s is negative", s.Standard))
	}
	return errors.Join(errs...)
}

var policies = []string{keys.PolicyOnly, keys.PolicyPrefer, keys.PolicyOverflow}

func validPolicy(policy string) error {
	if !slices.Contains(policies, policy) {
		return fmt.Errorf("%q is none of %s", policy, strings.Join(policies, ", "))
	}
	return nil
}

func validOrder(clusters []string) error {
	for _, name := range clusters {
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
			return fmt.Errorf("%q is no name of a cluster: give names separated by commas", name)
		}
	}
	return nil
}

func validArchitecture(name string) error {
	if problems := validation.IsValidLabelValue(name); len(problems) > 0 {
		return fmt.Errorf("%q is none: give one as the label %s has it, such as amd64", name, corev1.LabelArchStable)
	}
	return nil
}

// settled are the settings that hold for one pod.
type settled struct {
	policy       string
	order        string
	architecture string
	from         map[string]string
}

// settle finds out what holds for a pod. Its error is for the user.
func (s Settings) settle(pod *corev1.Pod, name string) (*settled, error) {
	var namespace map[string]string
	if s.Namespace != nil {
		var err error
		if namespace, err = s.Namespace(name); err != nil {
			return nil, fmt.Errorf("reading namespace %s: %w", name, err)
		}
	}
	before, _ := seal.DecisionOf(pod)
	result := &settled{from: map[string]string{}}
	choose := func(setting, key, config string) string {
		value, from := chosen(pod.Annotations, namespace, key, config, before.From[setting])
		if value != "" {
			result.from[setting] = from
		}
		return value
	}
	result.policy = choose("policy", keys.Policy, cmp.Or(s.Policy, keys.PolicyOnly))
	result.order = choose("clusterOrder", keys.ClusterOrder, strings.Join(s.ClusterOrder, ","))
	result.architecture = choose("architecture", keys.Architecture, s.Architecture)
	for _, fault := range []struct {
		key string
		err error
	}{
		{keys.Policy, validPolicy(result.policy)}, {keys.ClusterOrder, validOrder(seal.Names(result.order))},
		{keys.Architecture, validArchitecture(result.architecture)},
	} {
		if fault.err != nil {
			return nil, fmt.Errorf("annotation %s: %w", fault.key, fault.err)
		}
	}
	return result, nil
}

// chosen is the value of a setting and where it comes from. What admission has written onto the pod before is known by what it said then.
func chosen(pod, namespace map[string]string, key, config, before string) (value, from string) {
	own, said := pod[key]
	switch {
	case said && before == seal.FromNamespace && namespace[key] == own, said && before == seal.FromConfig && config == own:
		return own, before
	case said:
		return own, seal.FromPod
	case namespace[key] != "":
		return namespace[key], seal.FromNamespace
	default:
		return config, seal.FromConfig
	}
}

// scheduler returns the scheduler that a pod goes to, and an error if that one does not ask the extender.
func (s Settings) scheduler(pod *corev1.Pod) (string, error) {
	name := pod.Spec.SchedulerName
	switch {
	case s.SchedulerName == "" && len(s.Schedulers) == 0, name == s.SchedulerName, slices.Contains(s.Schedulers, name):
		return name, nil
	case s.SchedulerName != "" && (name == "" || name == corev1.DefaultSchedulerName):
		return s.SchedulerName, nil
	default:
		return "", fmt.Errorf("spec.schedulerName: %q does not ask Tessera's extender, so it would place the pod blindly: "+
			"leave it out, or have the administrator name it among `schedulers` of admission", name)
	}
}
