package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl: client auth plugins
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the clients
	_ "k8s.io/component-base/metrics/prometheus/version"  // metric of the version
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// main hands over to the command that the first argument names, as if its own binary had been called.
func main() {
	commands := commandTable()
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		names := slices.Sorted(maps.Keys(commands))
		fmt.Fprintf(os.Stderr, "usage: planes %s [flags]\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	run := commands[os.Args[1]]
	os.Args = os.Args[1:]
	run()
}

// commandTable gives the commands of every platform and those of this one.
func commandTable() map[string]func() {
	commands := map[string]func(){
		"control-plane":           runControlPlane,
		"etcd":                    func() { etcdmain.Main(os.Args) },
		"kube-apiserver":          upstream(apiserver.NewAPIServerCommand),
		"kube-controller-manager": upstream(controllermanager.NewControllerManagerCommand),
		"kube-scheduler":          upstream(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kubectl":                 runKubectl,
		"kwok":                    runKWOK,
	}
	maps.Copy(commands, platformCommands(context.Background()))
	return commands
}

// upstream wraps the constructor of an upstream command, so that only the chosen one is built.
func upstream(newCommand func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(newCommand())) }
}

func runKubectl() {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
