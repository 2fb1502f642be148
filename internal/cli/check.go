package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// errCheck is a check that found something to be done.
var errCheck = errors.New("some checks failed")

// NewCheckCommand returns `tessera check`.
func NewCheckCommand() *cobra.Command {
	var flags upperFlags
	command := &cobra.Command{
		Use:   "check",
		Short: "Try whether the upper API server reaches every virtual node, and look for DaemonSets that would go there",
		Long: `Asks every virtual node for /healthz through the upper API server, which goes the way of kubectl logs, exec and port-forward, and
says what is to be done where that fails: a flag of kube-apiserver, a certificate, a right, a firewall. Lists DaemonSets that are older
than admission and whose pods would go to virtual nodes, with the patch that keeps them off: their next update through admission does
the same. Ends with code 1 if there is anything to do. Needs the rights to get nodes/proxy and to list daemonsets.`,
		Example: `  tessera check
  tessera check -o json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			client, err := flags.reach()
			if err != nil {
				return err
			}
			found, err := checkAll(command.Context(), client)
			if err != nil {
				return err
			}
			return printChecks(command.OutOrStdout(), found, flags.output)
		},
	}
	flags.add(command)
	flags.addOutput(command)
	return command
}

// check is what came of one attempt.
type check struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	Result  string `json:"result"`           // ok, failed or unknown
	Said    string `json:"said,omitempty"`   // the API server's words
	Advice  string `json:"advice,omitempty"` // what helps
}

// Results of a check.
const (
	checkOK      = "ok"
	checkFailed  = "failed"
	checkUnknown = "unknown"
)

// findings are what is printed.
type findings struct {
	Checks     []check          `json:"checks"`
	DaemonSets []strayDaemonSet `json:"daemonSets,omitempty"`
}

func checkAll(ctx context.Context, client kubernetes.Interface) (findings, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: keys.Cluster})
	if err != nil {
		return findings{}, fmt.Errorf("listing virtual nodes: %w", err)
	}
	stray, err := strayDaemonSets(ctx, client, nodes.Items)
	if err != nil {
		return findings{}, err
	}
	return findings{checkNodes(ctx, client, nodes.Items), stray}, nil
}

func checkNodes(ctx context.Context, client kubernetes.Interface, nodes []corev1.Node) []check {
	checks := make([]check, 0, len(nodes))
	for i := range nodes {
		node := &nodes[i]
		c := check{Node: node.Name, Address: addressOf(node)}
		if c.Address == "" {
			c.Result, c.Said, c.Advice = checkFailed, "its Node has no address", "set kubelet: {enabled: true} in virtualnode's configuration, "+
				"and see virtualnode's log for why it does not listen"
		} else {
			err := client.CoreV1().RESTClient().Get().Resource("nodes").Name(node.Name).SubResource("proxy").Suffix("healthz").Do(ctx).Error()
			c.Result, c.Said, c.Advice = judge(err, c.Address)
		}
		checks = append(checks, c)
	}
	return checks
}

// addressOf is where the API server looks for the kubelet API of a Node, "" for nowhere.
func addressOf(node *corev1.Node) string {
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if len(node.Status.Addresses) == 0 || port == 0 {
		return ""
	}
	return net.JoinHostPort(node.Status.Addresses[0].Address, strconv.Itoa(int(port)))
}

// causes are why an API server does not get through, by its words: the first that fits.
var causes = []struct{ words, result, advice string }{
	{"address not allowed", checkUnknown, "the proxy refuses loopback addresses, kubectl logs does not: try that"},
	{"no preferred addresses found", checkFailed, "kube-apiserver's --kubelet-preferred-address-types does not name the type of the Node's " +
		"address: add Hostname, or set kubelet: {addressType: InternalIP}"},
	{"signed by unknown authority", checkFailed, "kube-apiserver verifies kubelets: give virtualnode a CA (kubelet: {signerCertFile, " +
		"signerKeyFile}) and add its certificate to the file of --kubelet-certificate-authority"},
	{"certificate is valid for", checkFailed, "kubelet: {certFile} is for another address: make one for this, or leave it out"},
	{"doesn't contain any IP SANs", checkFailed, "kubelet: {certFile} is for no address: make one for this, or leave it out"},
	{"x509: ", checkFailed, "kube-apiserver does not take virtualnode's certificate: see kubelet: in its configuration"},
	{"Forbidden (user=", checkFailed, "kube-apiserver's user lacks nodes/proxy: bind it to ClusterRole system:kubelet-api-admin"},
	{"Unauthorized", checkFailed, "kube-apiserver shows no client certificate, or one of a CA that virtualnode does not know: set " +
		"--kubelet-client-certificate and --kubelet-client-key, or kubelet: {clientCAFile}"},
	{"no such host", checkFailed, "kube-apiserver cannot resolve the address: set kubelet: {address} to an IP"},
	{"connection refused", checkFailed, noWay}, {"no route to host", checkFailed, noWay}, {"network is unreachable", checkFailed, noWay},
	{"i/o timeout", checkFailed, noWay}, {"deadline exceeded", checkFailed, noWay}, {"Timeout", checkFailed, noWay},
	{"timed out", checkFailed, noWay},
}

const noWay = "there is no way from kube-apiserver to that address: open the ports of kubelet: {ports} in firewalls and policies, or " +
	"run virtualnode with hostNetwork or kubelet: {address}"

// judge says what came of an attempt, by its error.
func judge(err error, address string) (result, said, advice string) {
	if err == nil {
		return checkOK, "", ""
	}
	said = err.Error()
	if apierrors.IsForbidden(err) && strings.Contains(said, " cannot get resource ") {
		return checkUnknown, said, "you may not get nodes/proxy: run this as somebody who may"
	}
	for _, cause := range causes {
		if strings.Contains(said, cause.words) {
			return cause.result, said, cause.advice
		}
	}
	return checkFailed, said, "see the log of virtualnode, which listens on " + address
}

func printChecks(out io.Writer, found findings, output string) error {
	failed := len(found.DaemonSets) > 0
	for _, c := range found.Checks {
		failed = failed || c.Result == checkFailed
	}
	var err error
	if output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(found)
	} else {
		table := newTable(out, "VIRTUAL NODE", "ADDRESS", "RESULT", "THE API SERVER SAYS")
		for _, c := range found.Checks {
			table.row(c.Node, c.Address, c.Result, c.Said)
		}
		err = table.flush()
		for _, c := range found.Checks {
			if c.Advice != "" {
				fmt.Fprintf(out, "%s: %s\n", c.Node, c.Advice)
			}
		}
		for _, set := range found.DaemonSets {
			fmt.Fprintf(out, "DaemonSet %s/%s makes pods for virtual nodes, which do not run there:\n  %s\n", set.Namespace, set.Name, set.Patch)
		}
	}
	if err == nil && failed {
		err = errCheck
	}
	return err
}
