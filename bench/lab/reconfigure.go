package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Reconfigure merges a change into the YAML of a part that has been started and runs the part anew with it.
func (l *Lab) Reconfigure(ctx context.Context, part string, change map[string]any) error {
	process := l.Process(part)
	if process == nil || !slices.Contains(Parts, part) {
		return fmt.Errorf("reconfiguring %q: no such part was started (parts: %s)", part, strings.Join(Parts, ", "))
	}
	file := filepath.Join(l.dir, "parts", part+".yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reconfiguring %s: %w", part, err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("reconfiguring %s: %w", part, err)
	}
	if data, err = yaml.Marshal(merge(config, change)); err != nil {
		return fmt.Errorf("reconfiguring %s: %w", part, err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("reconfiguring %s: %w", part, diskError(l.dir, err))
	}
	process.Stop()
	return process.Restart(ctx)
}
