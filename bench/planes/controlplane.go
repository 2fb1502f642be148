package main

import (
	"fmt"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// runControlPlane starts etcd on ports of the kernel's choice and kube-apiserver on top of it.
// Arguments: --etcd-dir DIR -- FLAGS of kube-apiserver without --etcd-servers.
func runControlPlane() {
	if len(os.Args) < 4 || os.Args[1] != "--etcd-dir" || os.Args[3] != "--" {
		fmt.Fprintln(os.Stderr, "usage: planes control-plane --etcd-dir DIR -- FLAGS of kube-apiserver")
		os.Exit(2)
	}
	endpoint, err := startEtcd(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "control-plane:", err)
		os.Exit(1)
	}
	os.Args = append([]string{"kube-apiserver", "--etcd-servers=" + endpoint}, os.Args[4:]...)
	os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
}

// startEtcd runs a single etcd member on dir and returns its client URL. Data survive a killed process, because the
// kernel has the pages; a lab need not survive a power cut, so fsync is off.
func startEtcd(dir string) (string, error) {
	loopback := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "error"
	cfg.LogOutputs = []string{"stderr"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{loopback}, []url.URL{loopback}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{loopback}, []url.URL{loopback}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 50, 250 // one member: it only waits for itself
	cfg.SnapshotCount = 10_000
	cfg.QuotaBackendBytes = 4 << 30
	cfg.MaxTxnOps = 1024
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return "", fmt.Errorf("starting etcd in %s: %w", dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return "", fmt.Errorf("running etcd in %s: %w", dir, err)
	case <-time.After(30 * time.Second):
		return "", fmt.Errorf("waiting for etcd in %s: not ready after 30 s", dir)
	}
	go func() {
		fmt.Fprintln(os.Stderr, "control-plane: etcd ended:", <-e.Err())
		os.Exit(1)
	}()
	return "http://" + e.Clients[0].Addr().String(), nil
}
