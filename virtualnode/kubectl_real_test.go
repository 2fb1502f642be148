package virtualnode_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tessera-k8s/tessera/bench/lab/realnode"
)

// webApp is an application whose pods say hello and answer HTTP.
const webApp = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {tessera.sh/cluster: NODE}
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: IMAGE, imagePullPolicy: Never, args: [print=hello, serve=8080, wait], ports: [{name: http, containerPort: 8080}]}
`

// What a person does with kubectl to pods and nodes, one after the other, and what is printed; docs/kubectl.md lists each verb. Streams
// have tests of their own (TestRealKubelet...), top has TestRealUsage, drain has TestOutages/nodes.
func TestRealKubectl(t *testing.T) {
	w := newNetworkedWorld(t)
	t.Parallel()
	w.patience *= 2
	node, dump, file := w.lab.LowerName(1), t.TempDir(), filepath.Join(t.TempDir(), "web.yaml")
	text := strings.NewReplacer("NODE", node, "IMAGE", realnode.Image).Replace(webApp)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	proxied := "/api/v1/nodes/" + node + "/proxy/"
	for _, c := range []struct{ want, command string }{
		{"created", "apply -f " + file},
		{"successfully rolled out", "rollout status deployment/web --timeout=2m"},
		{"condition met", "wait --for=condition=Ready pod -l app=web --timeout=1m"},
		{node, "get pods -l app=web -o wide"},
		{"Container started", "describe pods -l app=web"},
		{"Scheduled", "events --types=Normal"},
		{"tessera.sh/Usable", "describe node " + node},
		{"hello", "logs deployment/web"},
		{"hello", "logs -l app=web --prefix"},
		{"inside", "exec deployment/web -- /payload print=inside"},
		{"exposed", "expose deployment/web --port=80 --target-port=http"},
		{"web", "get endpointslices -l kubernetes.io/service-name=web"},
		{"scaled", "scale deployment/web --replicas=2"},
		{"env updated", "set env deployment/web GREETING=hello"},
		{"restarted", "rollout restart deployment/web"},
		{"successfully rolled out", "rollout status deployment/web --timeout=2m"},
		{"REVISION", "rollout history deployment/web"},
		{"rolled back", "rollout undo deployment/web"},
		{"successfully rolled out", "rollout status deployment/web --timeout=2m"},
		{"labeled", "label pods -l app=web tier=front"},
		{"annotated", "annotate pods -l app=web note=read"},
		{"patched", `patch deployment/web --patch={"spec":{"replicas":1}}`},
		{"web-", "get --raw " + proxied + "pods"},
		{"ok", "get --raw " + proxied + "healthz"},
		{"kubelet_node_name", "get --raw " + proxied + "metrics"},
		{"resource_scrape_error", "get --raw " + proxied + "metrics/resource"},
		{node, "get --raw " + proxied + "stats/summary"},
		{"Cluster info dumped", "cluster-info dump --namespaces=" + w.ns + " --output-directory=" + dump},
		{"tainted", "taint node " + node + " example.com/kept=out:NoSchedule"},
		{"untainted", "taint node " + node + " example.com/kept-"},
		{"cordoned", "cordon " + node},
		{"uncordoned", "uncordon " + node},
		{"deleted", "delete pods -l app=web --now"},
		{"successfully rolled out", "rollout status deployment/web --timeout=2m"},
		{"deleted", "delete deployment/web --cascade=foreground --wait --timeout=1m"},
	} {
		var out string
		var err error
		for range 5 { // A pod of an older revision may go between kubectl's list and its calls.
			if out, err = w.kubectlAbove(t.Context(), strings.Fields(c.command)...); err == nil || !strings.Contains(out, "(NotFound)") {
				break
			}
		}
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("kubectl %s: want %q, got %q, %v", c.command, c.want, out, err)
		}
	}
	check, err := exec.CommandContext(t.Context(), w.lab.Tessera(), "check", "--upper-kubeconfig="+w.lab.UpperKubeconfig()).CombinedOutput()
	if err != nil || strings.Count(string(check), " ok ") != 2 {
		t.Errorf("tessera check says %s: %v", check, err)
	}
	logs, err := filepath.Glob(filepath.Join(dump, w.ns, "web-*", "logs.txt"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("the dump has no logs: %v", err)
	}
	for _, file := range logs {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "hello") {
			t.Errorf("the dump has of %s: %q, %v", file, text, err)
		}
	}
}
