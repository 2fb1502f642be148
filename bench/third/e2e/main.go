// Command e2e runs Kubernetes' own end-to-end specs of pods on a node and of their network (test/e2e/common) against a cluster, in
// namespaces that carry a label. Its flags are those of e2e.test; --ginkgo.focus and --ginkgo.skip choose, --ginkgo.dry-run lists.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	_ "k8s.io/kubernetes/test/e2e/common/network"
	_ "k8s.io/kubernetes/test/e2e/common/node"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

func run() error {
	label := flag.String("namespace-label", "", "`KEY=VALUE` that the namespaces of specs are given when they are made")
	var shown shown
	flag.StringVar(&shown.taint, "hide-taint", "", "`KEY` of a taint without which specs see the Nodes; wants --kube-api-content-type=application/json")
	flag.StringVar(&shown.hostname, "hostname-suffix", "", "what makes the name of a Node without a host name that of a machine, for specs to see; "+
		"wants --hide-taint")
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if key, value, found := strings.Cut(*label, "="); found {
		framework.TestContext.CreateTestingNS = func(ctx context.Context, name string, client kubernetes.Interface,
			labels map[string]string) (*corev1.Namespace, error) {
			all := map[string]string{key: value}
			maps.Copy(all, labels)
			return framework.CreateTestingNS(ctx, name, client, all)
		}
	}
	if shown.taint != "" && framework.TestContext.KubeConfig != "" {
		file, err := shown.proxied(framework.TestContext.KubeConfig)
		if err != nil {
			return err
		}
		defer os.Remove(file)
		framework.TestContext.KubeConfig = file
	}
	framework.TestContext.IPFamily = "ipv4"
	framework.AfterReadingAllFlags(&framework.TestContext)
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	var result result
	if !ginkgo.RunSpecs(&result, "Kubernetes e2e suite", suite, reporter) || result.failed {
		return errors.New("specs failed")
	}
	return nil
}

// result is a ginkgo.GinkgoTestingT.
type result struct{ failed bool }

// Fail implements ginkgo.GinkgoTestingT.
func (r *result) Fail() { r.failed = true }
