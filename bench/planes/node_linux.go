package main

import (
	"context"

	"github.com/spf13/cobra"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// platformCommands are the commands of a real node, which upstream builds for Linux.
func platformCommands(ctx context.Context) map[string]func() {
	return map[string]func(){
		"kubelet":    upstream(func() *cobra.Command { return kubelet.NewKubeletCommand(ctx) }),
		"kube-proxy": upstream(proxy.NewProxyCommand),
	}
}
