package lab

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/tessera-k8s/tessera/internal/keys"
)

// controllers are those of kube-controller-manager that pods, workloads and nodes need. Left out are the ones that would have
// no work here: certificates, bootstrap tokens, node addresses, attach-detach, storage migration.
var controllers = []string{
	"serviceaccount-controller", "serviceaccount-token-controller", "root-ca-certificate-publisher-controller",
	"clusterrole-aggregation-controller",
	"namespace-controller", "garbage-collector-controller", "pod-garbage-collector-controller",
	"resourcequota-controller", "ttl-after-finished-controller",
	"deployment-controller", "replicaset-controller", "replicationcontroller-controller", "statefulset-controller", "daemonset-controller",
	"job-controller", "cronjob-controller", "horizontal-pod-autoscaler-controller", "disruption-controller",
	"endpoints-controller", "endpointslice-controller", "endpointslice-mirroring-controller",
	"node-lifecycle-controller", "taint-eviction-controller", "device-taint-eviction-controller", "ttl-controller",
	"persistentvolume-binder-controller", "persistentvolumeclaim-protection-controller", "persistentvolume-protection-controller",
	"ephemeral-volume-controller", "resourceclaim-controller", "validatingadmissionpolicy-status-controller",
}

// shortToleration is how long pods tolerate a lost node with short timers.
const shortToleration = 5 * time.Second

// controlEnv makes the collector rarer: a start of 1+3 clusters then takes 14 s of processor time instead of 17 s, for 30 MiB a cluster.
func (l *Lab) controlEnv() []string {
	env := []string{"GOGC=200"}
	if l.options.ShortTimers {
		env = append(env, "LAB_LEASE_EVERY=2s") // the grace period is 8 s then
	}
	return env
}

func (c *cluster) pki(name string) string { return filepath.Join(c.lab.dir, "pki", c.name, name) }

func (c *cluster) adminKubeconfig() string { return filepath.Join(c.lab.dir, c.kubeconfigFile()) }

func (c *cluster) apiServerArgs() []string {
	args := []string{
		"control-plane", "--etcd-dir", filepath.Join(c.lab.dir, "state", c.name, "etcd"), "--",
		fmt.Sprintf("--secure-port=%d", c.port),
		"--cert-dir=" + filepath.Join(c.lab.dir, "state", c.name, "certs"),
		"--tls-cert-file=" + c.pki("apiserver.crt"), "--tls-private-key-file=" + c.pki("apiserver.key"), "--client-ca-file=" + c.pki("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--service-account-key-file=" + c.pki("sa.pub"),
		"--service-account-signing-key-file=" + c.pki("sa.key"), "--service-cluster-ip-range=" + c.serviceCIDR(),
		"--authorization-mode=RBAC", "--allow-privileged=true",
		"--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000",
	}
	args = append(args, c.addressArgs()...)
	args = append(args, c.kubeletArgs()...)
	if c.lab.options.ShortTimers {
		seconds := int(shortToleration.Seconds())
		args = append(args, fmt.Sprintf("--default-not-ready-toleration-seconds=%d", seconds),
			fmt.Sprintf("--default-unreachable-toleration-seconds=%d", seconds))
	}
	return args
}

func (c *cluster) controllerManagerArgs() []string {
	args := []string{
		"kube-controller-manager", "--kubeconfig=" + c.adminKubeconfig(), "--leader-elect=false", "--secure-port=0", "--profiling=false",
		"--controllers=" + strings.Join(controllers, ","), "--root-ca-file=" + c.pki("ca.crt"),
		"--service-account-private-key-file=" + c.pki("sa.key"),
		"--use-service-account-credentials=false", "--kube-api-qps=500", "--kube-api-burst=1000",
	}
	if c.lab.options.ShortTimers {
		args = append(args, "--node-monitor-grace-period=8s", "--node-monitor-period=1s")
	}
	return args
}

// schedulerArgs are those of a lower scheduler, which has its default profile; the upper one is told everything by its --config.
func (c *cluster) schedulerArgs() []string {
	args := []string{"kube-scheduler", "--secure-port=0"}
	if c.index == 0 {
		return args
	}
	return append(args, "--kubeconfig="+c.pki("scheduler.kubeconfig"), "--leader-elect=false", "--profiling=false",
		"--kube-api-qps=500", "--kube-api-burst=1000")
}

func (c *cluster) kwokArgs() []string {
	args := []string{
		"kwok", "--v=WARN", "--kubeconfig=" + c.adminKubeconfig(), "--config=" + filepath.Join(c.lab.dir, "stages.yaml"), "--cidr=" + c.podCIDR(),
	}
	if c.index == 0 {
		return append(args, "--manage-all-nodes=false", "--manage-nodes-with-label-selector="+labelNode) // never touch virtual nodes
	}
	// The same where a lower cluster plays an upper one.
	return append(args, "--manage-all-nodes=false", "--manage-nodes-with-label-selector=!"+keys.Cluster)
}
