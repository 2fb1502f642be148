package virtualnode

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/internal/translate"
	"github.com/tessera-k8s/tessera/virtualnode/hints"
	"github.com/tessera-k8s/tessera/virtualnode/pods/up"
	"github.com/tessera-k8s/tessera/virtualnode/policies"
	"github.com/tessera-k8s/tessera/virtualnode/services"
)

// ClusterConfig is what can be set for all lower clusters and for one. Empty values leave what holds for all.
type ClusterConfig struct {
	// Hint says how the lower scheduler is told of the hold.
	Hint hints.Mode `json:"hint,omitempty"`
	// Network says whether addresses of lower pods are shown above.
	Network Network `json:"network,omitempty"`
	// Services says which Services of the upper cluster are in the lower one.
	Services services.Mode `json:"services,omitempty"`
	// NetworkPolicies says what becomes of those of the upper cluster.
	NetworkPolicies policies.Mode `json:"networkPolicies,omitempty"`
	// NamespacePrefix goes before the names of namespaces below.
	NamespacePrefix string `json:"namespacePrefix,omitempty"`
	// OpenNamespaces are lower namespaces not made by us that pods may go to nevertheless; "*" is all.
	OpenNamespaces []string `json:"openNamespaces,omitempty"`
	// OwnerInOpenNamespaces has lower pods in namespaces that are not ours belong to these, as in those that are.
	OwnerInOpenNamespaces *bool `json:"ownerInOpenNamespaces,omitempty"`
	// NamespaceLabels are the keys of labels that a namespace we make takes over from the upper one.
	NamespaceLabels []string `json:"namespaceLabels,omitempty"`
	// PodSecurity is the least level that namespaces we make enforce: "", baseline or restricted.
	PodSecurity string `json:"podSecurity,omitempty"`
	// SchedulerName is the lower scheduler that places the pods.
	SchedulerName string `json:"schedulerName,omitempty"`
	// PriorityBelow says what becomes of the priority class.
	PriorityBelow translate.Priority `json:"priorityBelow,omitempty"`
	// PriorityClasses gives the lower class of an upper one.
	PriorityClasses map[string]string `json:"priorityClasses,omitempty"`
	// Allow lists the powers over lower nodes and clusters that pods may have.
	Allow []translate.Power `json:"allow,omitempty"`
	// UpperAPI is the URL under which pods below reach the upper API server.
	UpperAPI string `json:"upperAPI,omitempty"`
	// Nodes is a label selector over the lower nodes that take part.
	Nodes string `json:"nodes,omitempty"`
	// Reserve is the room left to the lower cluster's own growth, by resource: a quantity or a share.
	Reserve map[corev1.ResourceName]string `json:"reserve,omitempty"`
	// OnLost says what becomes of the pods of a cluster that is out of reach.
	OnLost *OnLost `json:"onLost,omitempty"`
	// ProviderID is that of the Node.
	ProviderID ProviderID `json:"providerID,omitempty"`
	// Unasked says what becomes of pods that are bound without having come through admission.
	Unasked Unasked `json:"unasked,omitempty"`
}

// Network says what a pod's address below means above.
type Network string

// The networks.
const (
	NetworkIsolated Network = "isolated" // nothing: it is not shown as the pod's address
	NetworkFlat     Network = "flat"     // the same: pods of all clusters reach each other by it
)

// Unasked says what becomes of pods that are bound to a virtual node without having come through admission.
type Unasked string

// The ways.
const (
	UnaskedRefuse Unasked = "refuse" // they fail
	UnaskedAccept Unasked = "accept" // they are created below like all others
)

// ProviderID says what the provider ID of a Node is: one of the ways, or a text in which {name} stands for the cluster's.
type ProviderID string

// The ways.
const (
	ProviderAuto ProviderID = "auto"
	ProviderNone ProviderID = "none"
)

func (p ProviderID) is() bool { return p != "" && p != ProviderAuto && p != ProviderNone }

// of is the provider ID of a virtual node, "" for none. scheme is that of the real nodes' provider IDs, "" where they have none.
func (p ProviderID) of(name, identity, scheme string) string {
	switch {
	case p.is():
		return strings.ReplaceAll(string(p), "{name}", name)
	case p == ProviderNone, scheme == "", scheme == "aws":
		return ""
	default:
		return "tessera://" + identity + "/" + name
	}
}

// OnLost is up.OnLost as it is written in a file.
type OnLost up.OnLost

// MarshalJSON writes what UnmarshalJSON reads.
func (o OnLost) MarshalJSON() ([]byte, error) {
	switch {
	case o.Keep:
		return []byte(`"keep"`), nil
	case o.After > 0:
		return json.Marshal(map[string]string{"after": o.After.String()})
	default:
		return []byte(`"standard"`), nil
	}
}

// UnmarshalJSON reads standard, keep or {after: 10m}.
func (o *OnLost) UnmarshalJSON(data []byte) error {
	var after struct {
		After metav1.Duration `json:"after"`
	}
	switch string(data) {
	case `"standard"`, `""`:
		*o = OnLost{}
	case `"keep"`:
		*o = OnLost{Keep: true}
	default:
		if err := json.Unmarshal(data, &after); err != nil || after.After.Duration < time.Second {
			return fmt.Errorf("onLost: %s is none of standard, keep, {after: 10m} (a second or more)", data)
		}
		*o = OnLost{After: after.After.Duration}
	}
	return nil
}

// clusterHelp documents every key of ClusterConfig; a test compares the two.
const clusterHelp = `For all lower clusters, and under perCluster for one of them:
hint: nominated              how the lower scheduler is told that node. nominated: status.nominatedNodeName, and
                             preferred where patching the status of pods is forbidden; preferred: preferred node
                             affinity; required: required node affinity; off: it is not told
network: isolated            isolated: addresses of lower pods stay in the annotation tessera.sh/lower-ip; flat: they are the
                             pods' addresses above too, for networks in which all pods reach each other
services: all                Services that are below, too: all: of namespaces that opted in, where network is flat, else as namespace:
                             of those with pods there; none
networkPolicies: ignore      NetworkPolicies hold below, too. ignore: what cannot mean the same there is left out, so that fewer are let in;
                             refuse: pods that such a policy selects do not come either; none: no policy comes
namespacePrefix: ""          put before the names of namespaces below; empty: the same names
openNamespaces: []           lower namespaces not made by Tessera that pods may go to ("*": all), beside those with the label
                             tessera.sh/open-to
ownerInOpenNamespaces: true  pods in such a namespace belong to it, so that kubectl drain takes them; false where a budget of its own
                             gives a percentage and selects them, too: it cannot be counted then
namespaceLabels: []          keys of labels that namespaces made below take over from the upper ones
podSecurity: ""              least Pod Security level of namespaces made below: baseline or restricted; empty: the upper one's
schedulerName: ""            scheduler below; empty: the lower cluster's default
priorityBelow: none          none: pods have no class below; same: the class of that name; map: see the next
priorityClasses: {}          lower class by upper class, for priorityBelow: map; "" is for all others: {"": tessera} gives them the class
                             of manifests/lower, which never preempts
allow: []                    powers that pods may have: hostNamespaces, hostPath, privileged; upperToken: tokens of their ServiceAccounts
                             above, which whoever rules the lower cluster can use; lowerAccount: those of the account of that
                             name below, with annotation tessera.sh/token=lower
upperAPI: ""                 URL of the upper API server as pods below reach it, such as https://192.0.2.1:6443; needed by upperToken
nodes: ""                    label selector over the lower nodes that take part; empty: all
reserve: {}                  room left to the lower cluster's own growth: {cpu: "4", memory: 10%}
onLost: standard             pods of a cluster that does not answer: standard: as their tolerations say; keep: they stay; {after: 10m}
providerID: auto             provider ID of the Node. auto: tessera://IDENTITY/NAME where the real nodes have provider IDs, none on AWS,
                             whose autoscaler stops at one of another kind; none; or a text, in which {name} is the cluster's
unasked: refuse              pods bound to a virtual node past admission: refuse (they fail) or accept (where they or their
                             namespace opted in)
`

func defaultClusterConfig() ClusterConfig {
	return ClusterConfig{
		Hint: hints.Nominated, Network: NetworkIsolated, Services: services.All, NetworkPolicies: policies.Ignore,
		PriorityBelow: translate.PriorityNone, OnLost: &OnLost{},
		ProviderID: ProviderAuto, OwnerInOpenNamespaces: new(true), Unasked: UnaskedRefuse,
	}
}

// cluster returns what holds for one lower cluster.
func (c *Config) cluster(name string) ClusterConfig {
	own, all := c.PerCluster[name], c.ClusterConfig
	return ClusterConfig{
		Hint:                  cmp.Or(own.Hint, all.Hint),
		Network:               cmp.Or(own.Network, all.Network),
		Services:              cmp.Or(own.Services, all.Services),
		NetworkPolicies:       cmp.Or(own.NetworkPolicies, all.NetworkPolicies),
		NamespacePrefix:       cmp.Or(own.NamespacePrefix, all.NamespacePrefix),
		OpenNamespaces:        either(own.OpenNamespaces, all.OpenNamespaces),
		OwnerInOpenNamespaces: cmp.Or(own.OwnerInOpenNamespaces, all.OwnerInOpenNamespaces, defaultClusterConfig().OwnerInOpenNamespaces),
		NamespaceLabels:       either(own.NamespaceLabels, all.NamespaceLabels),
		PodSecurity:           cmp.Or(own.PodSecurity, all.PodSecurity),
		SchedulerName:         cmp.Or(own.SchedulerName, all.SchedulerName),
		PriorityBelow:         cmp.Or(own.PriorityBelow, all.PriorityBelow),
		PriorityClasses:       eitherMap(own.PriorityClasses, all.PriorityClasses),
		Allow:                 either(own.Allow, all.Allow),
		UpperAPI:              cmp.Or(own.UpperAPI, all.UpperAPI),
		Nodes:                 cmp.Or(own.Nodes, all.Nodes),
		Reserve:               eitherMap(own.Reserve, all.Reserve),
		OnLost:                cmp.Or(own.OnLost, all.OnLost, defaultClusterConfig().OnLost),
		ProviderID:            cmp.Or(own.ProviderID, all.ProviderID),
		Unasked:               cmp.Or(own.Unasked, all.Unasked),
	}
}

func either[T any](own, all []T) []T {
	if own != nil {
		return own
	}
	return all
}

func texts[T ~string](values []T) (texts []string) {
	for _, value := range values {
		texts = append(texts, string(value))
	}
	return texts
}

func eitherMap[K comparable, V any](own, all map[K]V) map[K]V {
	if own != nil {
		return own
	}
	return all
}

// rules are the part of it that the extender has to know, too.
func (c ClusterConfig) rules() translate.Rules {
	rules := translate.Rules{
		NamespacePrefix: c.NamespacePrefix, OpenNamespaces: c.OpenNamespaces, SchedulerName: c.SchedulerName,
		Nodes: c.Nodes, Reserve: c.Reserve, Allow: c.Allow, UpperAPI: c.UpperAPI,
	}
	if c.PriorityBelow != translate.PriorityNone {
		rules.Priority, rules.PriorityClasses = c.PriorityBelow, c.PriorityClasses
	}
	return rules
}

// validate checks the values; at is put before the keys. Empty ones are left to what holds for all.
func (c ClusterConfig) validate(at string) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(at+format, args...)) }
	oneOf := func(key, value string, known ...string) {
		if value != "" && !slices.Contains(known, value) {
			fault("%s: %q is none of %s", key, value, strings.Join(known, ", "))
		}
	}
	oneOf("hint", string(c.Hint), string(hints.Nominated), string(hints.Preferred), string(hints.Required), string(hints.Off))
	oneOf("network", string(c.Network), string(NetworkIsolated), string(NetworkFlat))
	oneOf("services", string(c.Services), string(services.All), string(services.Namespace), string(services.None))
	oneOf("networkPolicies", string(c.NetworkPolicies), string(policies.Ignore), string(policies.Refuse), string(policies.None))
	oneOf("podSecurity", c.PodSecurity, "baseline", "restricted")
	oneOf("priorityBelow", string(c.PriorityBelow),
		string(translate.PriorityNone), string(translate.PrioritySame), string(translate.PriorityMap))
	oneOf("unasked", string(c.Unasked), string(UnaskedRefuse), string(UnaskedAccept))
	for _, power := range c.Allow {
		oneOf("allow", string(power), texts(translate.Powers())...)
	}
	if _, _, err := translate.ParseUpperAPI(c.UpperAPI); err != nil && c.UpperAPI != "" {
		fault("upperAPI: %w", err)
	}
	if faults := validation.IsDNS1123Label(c.NamespacePrefix + "x"); len(faults) > 0 || len(c.NamespacePrefix) > 30 {
		fault("namespacePrefix: %q cannot begin the name of a namespace (30 characters at most, such as team-a-)", c.NamespacePrefix)
	}
	if _, err := labels.Parse(c.Nodes); err != nil {
		fault("nodes: %q is no label selector such as pool=shared: %w", c.Nodes, err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Reserve)) {
		if _, err := translate.ParseReserve(c.Reserve[name]); err != nil {
			fault("reserve: %s: %w", name, err)
		}
	}
	if c.ProviderID.is() && !strings.Contains(string(c.ProviderID), "://") {
		fault("providerID: %q is none of auto, none, SCHEME://TEXT", c.ProviderID)
	}
	return errors.Join(errs...)
}
