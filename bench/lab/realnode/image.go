package realnode

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
)

// Image is the only image that a real node has. Its program is /payload, see folder payload; without arguments it pauses.
const Image = "lab.tessera.sh/payload:1"

// Archive makes a docker-archive of Image: one layer with the program, also by the name of tar, a configuration that names it, and the
// list of both.
func Archive(program []byte) ([]byte, error) {
	layer, err := tarball(file{name: "payload", mode: 0o755, data: program}, file{name: "bin/tar", mode: 0o777, link: "/payload"})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH,
		"config": map[string]any{"Entrypoint": []string{"/payload"}, "Cmd": []string{"wait"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return nil, fmt.Errorf("writing the configuration of an image: %w", err)
	}
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": digest(config) + ".json", "RepoTags": []string{Image}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return nil, fmt.Errorf("writing the manifest of an image: %w", err)
	}
	return tarball(file{name: "layer.tar", mode: 0o644, data: layer}, file{name: digest(config) + ".json", mode: 0o644, data: config},
		file{name: "manifest.json", mode: 0o644, data: manifest})
}

type file struct {
	name string
	mode int64
	data []byte
	link string // where it leads, if it is a symbolic link
}

func tarball(files ...file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Linkname: f.link}
		if f.link != "" {
			header.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("writing %s of an image: %w", f.name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("writing %s of an image: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing an image: %w", err)
	}
	return out.Bytes(), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
