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

// Image is the image that every real node has. Its program is /payload, see folder payload; without arguments it pauses.
const Image = "lab.tessera.sh/payload:1"

// Payload is that image.
func Payload(program []byte) ([]byte, error) {
	return Archive([]File{{Name: "payload", Mode: 0o755, Data: program}, {Name: "bin/tar", Mode: 0o777, Link: "/payload"}},
		Config{Names: []string{Image}, Entrypoint: []string{"/payload"}, Cmd: []string{"wait"}})
}

// Config is an image but for its files.
type Config struct {
	Names           []string
	Entrypoint, Cmd []string
	User            string
}

// Archive makes a docker-archive of images that differ in their configurations alone: one layer with the files, the configurations, and
// the list of all.
func Archive(files []File, images ...Config) ([]byte, error) {
	layer, err := tarball(files...)
	if err != nil {
		return nil, err
	}
	parts := []File{{Name: "layer.tar", Mode: 0o644, Data: layer}}
	var list []any
	for _, image := range images {
		config, err := json.Marshal(map[string]any{
			"os": "linux", "architecture": runtime.GOARCH,
			"config": map[string]any{"Entrypoint": image.Entrypoint, "Cmd": image.Cmd, "User": image.User},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
		})
		if err != nil {
			return nil, fmt.Errorf("writing the configuration of an image: %w", err)
		}
		name := digest(config) + ".json"
		parts = append(parts, File{Name: name, Mode: 0o644, Data: config})
		list = append(list, map[string]any{"Config": name, "RepoTags": image.Names, "Layers": []string{"layer.tar"}})
	}
	manifest, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("writing the manifest of an image: %w", err)
	}
	return tarball(append(parts, File{Name: "manifest.json", Mode: 0o644, Data: manifest})...)
}

// File is one of an image, or a folder if its name ends in a slash.
type File struct {
	Name string
	Mode int64
	Data []byte
	Link string // where it leads, if it is a symbolic link
}

func tarball(files ...File) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Data)), Linkname: f.Link}
		if f.Link != "" {
			header.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("writing %s of an image: %w", f.Name, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, fmt.Errorf("writing %s of an image: %w", f.Name, err)
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
