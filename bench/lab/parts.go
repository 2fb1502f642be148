package lab

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// partReadyAfter is how long a part may take until /readyz says 200.
const partReadyAfter = 30 * time.Second

// ports are those of one part: TLS and plain.
type ports struct{ secure, plain int }

// StartPart runs a part and waits until it is ready. A part that ran before keeps its ports. The upper scheduler is given
// the extender entry (and restarted) when the extender is started for the first time.
func (l *Lab) StartPart(ctx context.Context, part string) error {
	if !slices.Contains(Parts, part) {
		return fmt.Errorf("starting part %q: there is no such part (parts: %s)", part, strings.Join(Parts, ", "))
	}
	if p := l.sup.find(part); p != nil && !p.Exited() {
		return fmt.Errorf("starting part %s: it runs already", part)
	}
	if err := l.buildProduct(ctx); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		err := l.runPart(ctx, part, attempt > 0)
		if attempt == 0 && errors.Is(err, errPortBusy) {
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	switch part {
	case PartExtender:
		if _, err := l.writeFile("extender.url", []byte(l.ExtenderURL()+"\n")); err != nil {
			return err
		}
		return l.useExtender(ctx)
	case PartAdmission:
		return l.upper().applyWebhooks(ctx, fmt.Sprintf("https://127.0.0.1:%d", l.partPorts(part).secure), l.partsCA.pem)
	}
	return nil
}

// StopPart ends a part with SIGTERM. The scheduler's extender entry and the webhooks stay, as when a part has died.
func (l *Lab) StopPart(part string) error {
	p := l.sup.find(part)
	if p == nil || p.Exited() {
		return fmt.Errorf("stopping part %q: it does not run", part)
	}
	p.Stop()
	return nil
}

// runPart writes the part's files and starts its process.
func (l *Lab) runPart(ctx context.Context, part string, newPorts bool) error {
	if err := l.choosePorts(part, newPorts); err != nil {
		return err
	}
	config, err := l.writePart(ctx, part)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, partReadyAfter, fmt.Errorf("%s is not ready after %s", part, partReadyAfter))
	defer cancel()
	return l.sup.process(part).start(ctx, command{
		path: l.Tessera(), args: []string{part, "--config", config}, grace: 2 * time.Second, network: l.upper().network,
		ready: func(ctx context.Context) error { return httpReady(ctx, http.DefaultClient, l.PartURL(part)+"/readyz") },
	})
}

func (l *Lab) choosePorts(part string, again bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, chosen := l.ports[part]; chosen && !again {
		return nil
	}
	secure, err := l.networks.openPort(l.pickPort, l.upper().network)
	if err != nil {
		return err
	}
	plain, err := l.networks.openPort(l.pickPort, l.upper().network)
	if err != nil {
		return err
	}
	l.ports[part] = ports{secure: secure, plain: plain}
	return nil
}

func (l *Lab) partPorts(part string) ports {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ports[part]
}

// PartURL is the plain listener of a part, on loopback.
func (l *Lab) PartURL(part string) string {
	return fmt.Sprintf("http://127.0.0.1:%d", l.partPorts(part).plain)
}

// PartTLS is the TLS listener of a part, and the CA of its certificate, PEM.
func (l *Lab) PartTLS(part string) (url string, ca []byte) {
	return fmt.Sprintf("https://127.0.0.1:%d", l.partPorts(part).secure), l.partsCA.pem
}

// writePart writes the part's certificate, account and configuration and returns the path of the last.
func (l *Lab) writePart(ctx context.Context, part string) (string, error) {
	pair, err := l.partsCA.server(part, "tessera-"+part+"."+installNamespace+".svc")
	if err != nil {
		return "", err
	}
	account, token, err := l.upper().accountKubeconfig(ctx, "tessera-"+part)
	if err != nil {
		return "", err
	}
	for suffix, data := range map[string][]byte{".crt": pair.cert, ".key": pair.key, ".kubeconfig": account, ".token": []byte(token)} {
		if _, err := l.writeFile(filepath.Join("parts", part+suffix), data); err != nil {
			return "", err
		}
	}
	data, err := yaml.Marshal(merge(l.partConfig(part), l.options.Config[part]))
	if err != nil {
		return "", fmt.Errorf("writing the configuration of %s: %w", part, err)
	}
	return l.writeFile(filepath.Join("parts", part+".yaml"), data)
}

// partConfig is the part's configuration before Options.Config changes it.
func (l *Lab) partConfig(part string) map[string]any {
	file := func(suffix string) string { return filepath.Join(l.dir, "parts", part+suffix) }
	p := l.partPorts(part)
	config := map[string]any{
		"listen":   fmt.Sprintf("127.0.0.1:%d", p.secure),
		"certFile": file(".crt"), "keyFile": file(".key"),
		"insecureLoopback": true, "insecurePort": p.plain,
	}
	clusters := filepath.Join(l.dir, "clusters")
	switch part {
	case PartExtender:
		maps.Copy(config, map[string]any{
			"upperKubeconfig": file(".kubeconfig"), "clusters": clusters, "clientCAFile": l.partsCAFile(), "namespace": installNamespace,
		})
	case PartVirtualNode:
		maps.Copy(config, map[string]any{
			"upperKubeconfig": file(".kubeconfig"), "clusters": clusters, "upperAPI": l.upper().serverForPods(), "kubelet": l.kubeletConfig(),
		})
	case PartAdmission:
		config["upperKubeconfig"] = file(".kubeconfig")
	case PartRebalance:
		maps.Copy(config, map[string]any{"upperKubeconfig": file(".kubeconfig")})
	}
	if l.options.ShortTimers && (part == PartVirtualNode || part == PartAdmission) {
		config["defaultToleration"] = shortToleration.String() // As the API server is told.
	}
	if part == PartRebalance && l.partPorts(PartExtender).secure == 0 {
		config["dryRun"] = true // It moves nothing where nobody can be asked.
	}
	if extender := l.partPorts(PartExtender).secure; extender != 0 && (part == PartVirtualNode || part == PartRebalance) {
		maps.Copy(config, map[string]any{
			"extender": fmt.Sprintf("https://127.0.0.1:%d", extender), "extenderCAFile": l.partsCAFile(), "extenderTokenFile": file(".token"),
		})
	}
	return config
}

// kubeletConfig is where the kubelet API of virtual nodes listens, with certificates that the upper API server verifies.
func (l *Lab) kubeletConfig() map[string]any {
	address := "127.0.0.1"
	if own := l.upper().address; own.IsValid() {
		address = own.String()
	}
	return map[string]any{
		"address": address, "bind": address,
		"signerCertFile": l.upper().pki("virtualnode-ca.crt"), "signerKeyFile": l.upper().pki("virtualnode-ca.key"),
	}
}

func (l *Lab) partsCAFile() string { return filepath.Join(l.dir, "pki", "parts", "ca.crt") }

// merge puts change over base; maps in both are merged, everything else is replaced.
func merge(base, change map[string]any) map[string]any {
	for key, value := range change {
		below, ok := base[key].(map[string]any)
		if above, both := value.(map[string]any); both && ok {
			base[key] = merge(below, above)
			continue
		}
		base[key] = value
	}
	return base
}

// httpReady asks a server whether it is ready.
func httpReady(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

func encodeBase64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// webhookCalled creates a pod as a dry run to see whether admission is asked: one that tolerates everything is kept off virtual nodes.
func (c *cluster) webhookCalled(ctx context.Context) error {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "lab-probe-", Namespace: metav1.NamespaceDefault},
		Spec: corev1.PodSpec{
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{Name: "c", Image: "pause", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")},
			}}},
		},
	}
	got, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	if got.Spec.Affinity == nil {
		return errors.New("a pod that tolerates everything came back as it was")
	}
	return nil
}
