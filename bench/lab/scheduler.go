package lab

import (
	"context"
	"fmt"
	"path/filepath"

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
	if port := l.extenderEntry(); port != 0 {
		entry := map[string]any{
			"urlPrefix":  fmt.Sprintf("https://127.0.0.1:%d/scheduler", port),
			"filterVerb": "filter", "prioritizeVerb": "prioritize", "preemptVerb": "preempt", "weight": 200,
			"nodeCacheCapable": true, "httpTimeout": "500ms", "ignorable": false,
			"managedResources": []any{map[string]any{"name": "tessera.sh/pod", "ignoredByScheduler": false}},
			"enableHTTPS":      true,
			"tlsConfig": map[string]any{
				"caFile": l.partsCAFile(), "certFile": l.partsFile("scheduler.crt"), "keyFile": l.partsFile("scheduler.key"),
			},
		}
		if l.options.StrictBind {
			entry["bindVerb"] = "bind"
		}
		config["extenders"] = []any{entry}
	}
	data, err := yaml.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("writing the scheduler's configuration: %w", err)
	}
	return l.writeFile(schedulerFile, data)
}

func (l *Lab) partsFile(name string) string { return filepath.Join(l.dir, "pki", "parts", name) }

// extenderEntry is the extender's port in the scheduler's configuration, 0 if there is no entry.
func (l *Lab) extenderEntry() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.schedulerPort
}

// enterExtender puts the extender's present port into the entry; it tells whether that changed anything.
func (l *Lab) enterExtender() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	port := l.ports[PartExtender].secure
	changed := l.schedulerPort != port
	l.schedulerPort = port
	return changed
}

// useExtender restarts the upper scheduler if it has no extender entry yet, or one with another port.
func (l *Lab) useExtender(ctx context.Context) error {
	if !l.enterExtender() {
		return nil
	}
	if _, err := l.writeSchedulerConfig(); err != nil {
		return err
	}
	return l.sup.process(upperName + "/kube-scheduler").Restart(ctx)
}
