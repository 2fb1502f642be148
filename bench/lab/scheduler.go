package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// writeSchedulerConfig writes the upper scheduler's KubeSchedulerConfiguration to DIR/kube-scheduler.yaml. With the extender it
// has the entry that a user adds; the file is meant to be read and copied.
func (l *Lab) writeSchedulerConfig() (string, error) {
	config := map[string]any{
		"apiVersion":           "kubescheduler.config.k8s.io/v1",
		"kind":                 "KubeSchedulerConfiguration",
		"leaderElection":       map[string]any{"leaderElect": false},
		"clientConnection":     map[string]any{"kubeconfig": l.upper().pki("scheduler.kubeconfig"), "qps": 500, "burst": 1000},
		"enableProfiling":      false,
		"podMaxBackoffSeconds": 2,
		"profiles":             []any{map[string]any{"schedulerName": "default-scheduler", "percentageOfNodesToScore": 100}},
	}
	if l.hasExtender() {
		config["extenders"] = []any{map[string]any{
			"urlPrefix":  fmt.Sprintf("https://127.0.0.1:%d/scheduler", l.partPorts(PartExtender).secure),
			"filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 200,
			"nodeCacheCapable": true, "httpTimeout": "500ms", "ignorable": false,
			"managedResources": []any{map[string]any{"name": "tessera.sh/pod", "ignoredByScheduler": false}},
			"enableHTTPS":      true,
			"tlsConfig": map[string]any{
				"caFile": l.partsCAFile(), "certFile": l.partsFile("scheduler.crt"), "keyFile": l.partsFile("scheduler.key"),
			},
		}}
	}
	data, err := yaml.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("writing the scheduler's configuration: %w", err)
	}
	return l.writeFile(schedulerFile, data)
}

func (l *Lab) partsFile(name string) string { return filepath.Join(l.dir, "pki", "parts", name) }

// hasExtender tells whether the scheduler's configuration has the extender entry.
func (l *Lab) hasExtender() bool {
	return slices.Contains(l.options.Parts, PartExtender) || l.lateExtender
}

// useExtender gives the upper scheduler the extender entry if it has none yet, or one with another port.
func (l *Lab) useExtender(ctx context.Context) error {
	port := l.partPorts(PartExtender).secure
	if l.schedulerPort == port {
		return nil
	}
	l.lateExtender = true
	if _, err := l.writeSchedulerConfig(); err != nil {
		return err
	}
	l.schedulerPort = port
	return l.sup.process(upperName + "/kube-scheduler").Restart(ctx)
}
