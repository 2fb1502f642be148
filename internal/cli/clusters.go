package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// upperFlags say which upper cluster to ask, and as whom.
type upperFlags struct {
	kubeconfig string
	output     string
}

func (f *upperFlags) add(command *cobra.Command) {
	command.Flags().StringVar(&f.kubeconfig, "upper-kubeconfig", "", "kubeconfig of the upper cluster (default: as kubectl)")
}

// addOutput adds the format of what is printed.
func (f *upperFlags) addOutput(command *cobra.Command) {
	command.Flags().StringVarP(&f.output, "output", "o", "table", "table or json")
}

func (f *upperFlags) reach() (kubernetes.Interface, error) {
	if f.output != "" && f.output != "table" && f.output != "json" { // Some commands print no table.
		return nil, fmt.Errorf("--output: %q is neither table nor json", f.output)
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the upper cluster's kubeconfig (--upper-kubeconfig): %w", err)
	}
	config.UserAgent, config.Timeout = "tessera", timeout
	return kubernetes.NewForConfig(config)
}

// NewClustersCommand returns `tessera clusters`.
func NewClustersCommand() *cobra.Command {
	var flags upperFlags
	command := &cobra.Command{
		Use:   "clusters",
		Short: "List the lower clusters, and say which cluster a virtual node stands for",
		Example: `  tessera clusters
  tessera clusters -o json
  tessera clusters accept berlin`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			client, err := flags.reach()
			if err != nil {
				return err
			}
			nodes, err := client.CoreV1().Nodes().List(command.Context(), metav1.ListOptions{LabelSelector: keys.Cluster})
			if err != nil {
				return fmt.Errorf("listing virtual nodes: %w", err)
			}
			return printClusters(command.OutOrStdout(), nodes.Items, flags.output)
		},
	}
	flags.add(command)
	flags.addOutput(command)
	command.AddCommand(newAcceptCommand())
	return command
}

// lowerCluster is a lower cluster as its Node in the upper cluster shows it.
type lowerCluster struct {
	Name         string `json:"name"`
	Ready        string `json:"ready"`
	Usable       string `json:"usable"`
	Reason       string `json:"reason"`
	Message      string `json:"message"`
	Token        string `json:"token,omitempty"`        // TokenGood or TokenEnds, where it says when it ends
	TokenMessage string `json:"tokenMessage,omitempty"` // until when
	LowerUID     string `json:"lowerUID,omitempty"`
	FoundUID     string `json:"foundUID,omitempty"`    // of another cluster that answers in its place
	FoundHolder  string `json:"foundHolder,omitempty"` // another process of the same identity that writes there
}

func describeCluster(node *corev1.Node) lowerCluster {
	c := lowerCluster{
		Name: node.Name, Ready: string(corev1.ConditionUnknown), Usable: string(corev1.ConditionUnknown),
		LowerUID: node.Annotations[keys.LowerUID], FoundUID: node.Annotations[keys.FoundUID],
		FoundHolder: node.Annotations[keys.FoundHolder],
	}
	for _, condition := range node.Status.Conditions {
		switch condition.Type {
		case corev1.NodeReady:
			c.Ready = string(condition.Status)
		case keys.Usable:
			c.Usable, c.Reason, c.Message = string(condition.Status), condition.Reason, condition.Message
		case keys.CredentialsEnding:
			c.Token, c.TokenMessage = condition.Reason, condition.Message
		}
	}
	return c
}

func printClusters(out io.Writer, nodes []corev1.Node, output string) error {
	clusters := make([]lowerCluster, 0, len(nodes))
	for i := range nodes {
		clusters = append(clusters, describeCluster(&nodes[i]))
	}
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"clusters": clusters})
	}
	table := newTable(out, "CLUSTER", "READY", "USABLE", "REASON", "TOKEN", "UID BELOW")
	for _, c := range clusters {
		table.row(c.Name, c.Ready, c.Usable, c.Reason, c.Token, c.LowerUID)
	}
	return table.flush()
}

func newAcceptCommand() *cobra.Command {
	var flags upperFlags
	command := &cobra.Command{
		Use:   "accept NAME",
		Short: "Let a virtual node work with the cluster that its kubeconfig leads to now",
		Long: `A virtual node stands for the cluster that answered first, known by the UID of its kube-system. When another one answers, because
kubeconfigs were mixed up or the cluster was built anew, nothing is done there (condition tessera.sh/Usable, LowerChanged) until
the kubeconfig is put right or this command says that the other one is meant. Pods that are bound to the virtual node and are not
in the new cluster fail then, and their controllers make others.

A cluster is also left alone where another virtualnode of the same identity writes to it, that of a clone of the upper cluster
(IdentityTaken). This command then says that the virtualnode of the upper cluster asked is to go on, and the other one to stop.`,
		Example: "  tessera clusters accept berlin --upper-kubeconfig upper.kubeconfig",
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, names []string) error {
			client, err := flags.reach()
			if err != nil {
				return err
			}
			said, err := accept(command.Context(), client, names[0])
			if err == nil {
				fmt.Fprintln(command.OutOrStdout(), said)
			}
			return err
		},
	}
	flags.add(command)
	return command
}

// accept writes on a virtual node that the cluster which was found in place of its own is its own, or that it is to write there in
// place of another process. It returns what that means.
func accept(ctx context.Context, client kubernetes.Interface, name string) (string, error) {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("there is no node %s: `tessera clusters` lists the virtual nodes", name)
	}
	if err != nil {
		return "", fmt.Errorf("reading node %s: %w", name, err)
	}
	accepted, said := map[string]string{}, ""
	uid, holder := node.Annotations[keys.FoundUID], node.Annotations[keys.FoundHolder]
	switch {
	case node.Labels[keys.Cluster] == "":
		return "", fmt.Errorf("node %s is no virtual node: `tessera clusters` lists them", name)
	case uid != "":
		accepted[keys.AcceptUID], said = uid, fmt.Sprintf("%s stands for the cluster %s from now on.", name, uid)
	case holder != "":
		accepted[keys.AcceptHolder], said = holder, fmt.Sprintf("%s goes on in place of %s.", name, holder)
	default:
		return "", fmt.Errorf("behind %s is the cluster that it stands for, and no other virtualnode writes there, or none answers: "+
			"there is nothing to accept", name)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "annotations": accepted}})
	if err != nil {
		return "", err
	}
	if _, err := client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return "", fmt.Errorf("writing node %s: %w", name, err)
	}
	return said, nil
}
