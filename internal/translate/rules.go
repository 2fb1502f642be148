package translate

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// Rules are what one virtual node does to pods beyond what holds for all of them. virtualnode takes them from its
// configuration and writes them into the annotation tessera.sh/rules of the Node, where the extender reads them: the pod
// that one judges has to be the pod that the other creates. The zero value changes nothing and allows nothing special.
type Rules struct {
	// NamespacePrefix goes before the names of namespaces below; "" keeps the names.
	NamespacePrefix string `json:"namespacePrefix,omitempty"`
	// OpenNamespaces are the lower namespaces not made by us that pods may go to nevertheless; "*" is all of them.
	OpenNamespaces []string `json:"openNamespaces,omitempty"`
	// SchedulerName is the lower scheduler (profile) that places the pods; "" is the lower cluster's default.
	SchedulerName string `json:"schedulerName,omitempty"`
	// Nodes is a label selector over lower nodes, those that take part; "" is all.
	Nodes string `json:"nodes,omitempty"`
	// Reserve is the room of those nodes that is left to the lower cluster's own growth: a quantity ("4", "16Gi") or a
	// share of what is allocatable ("10%"), by resource.
	Reserve map[corev1.ResourceName]string `json:"reserve,omitempty"`
	// Priority says what becomes of the pod's priority class.
	Priority Priority `json:"priority,omitempty"`
	// PriorityClasses gives the lower class of an upper one, for PriorityMap. The entry of "" is for pods without a class and
	// for classes without an entry.
	PriorityClasses map[string]string `json:"priorityClasses,omitempty"`
	// Allow lists the features of pods with power over their lower node, or over a whole cluster, that are let through.
	Allow []Power `json:"allow,omitempty"`
	// UpperAPI is the URL under which pods below reach the upper API server, for those that have tokens of it.
	UpperAPI string `json:"upperAPI,omitempty"`
}

// Priority is how a pod's priority is translated.
type Priority string

// The ways.
const (
	PriorityNone Priority = "none" // also "": no class, so that of pods below that name none
	PrioritySame Priority = "same" // the class of the same name
	PriorityMap  Priority = "map"  // the class that Rules.PriorityClasses names
)

// Power is a feature that gives a pod power over the node it runs on, or over a cluster.
type Power string

// The powers.
const (
	HostNamespaces Power = "hostNamespaces" // hostNetwork, hostPID, hostIPC
	HostPath       Power = "hostPath"       // volumes of the node's file system
	Privileged     Power = "privileged"     // privileged containers
	UpperToken     Power = "upperToken"     // tokens of upper ServiceAccounts, which whoever rules the lower cluster can read
	LowerAccount   Power = "lowerAccount"   // the lower ServiceAccount of the same name, with its rights
)

// Powers are all of them.
func Powers() []Power { return []Power{HostNamespaces, HostPath, Privileged, UpperToken, LowerAccount} }

// Write puts the rules into the annotations of a virtual node. Rules that say nothing leave no annotation.
func (r Rules) Write(node *corev1.Node) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing annotation %s: %w", keys.Rules, err)
	}
	if string(text) == "{}" {
		delete(node.Annotations, keys.Rules)
		return nil
	}
	metav1.SetMetaDataAnnotation(&node.ObjectMeta, keys.Rules, string(text))
	return nil
}

// TargetOf returns the target that a virtual node stands for. Its error names an annotation that cannot be read.
func TargetOf(node *corev1.Node, identity string) (Target, error) {
	target := Target{VirtualNode: node.Name, Labels: node.Labels, Identity: identity}
	text, ok := node.Annotations[keys.Rules]
	if !ok {
		return target, nil
	}
	if err := json.Unmarshal([]byte(text), &target.Rules); err != nil {
		return target, fmt.Errorf("reading annotation %s of node %s: %w", keys.Rules, node.Name, err)
	}
	return target, nil
}
