package realnode

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func testNode(t *testing.T) *Node {
	return &Node{Dir: t.TempDir(), Name: "n", Network: netip.MustParsePrefix("10.199.7.0/24"), Port: 32000}
}

func TestIDNamesABridge(t *testing.T) {
	n := testNode(t)
	if id := n.ID(); len(id) > 15 || idOf.FindString(id) == "" {
		t.Errorf("%q cannot name a bridge, or sweep would not know it", id)
	}
	if got := n.Address().String(); got != "10.199.7.1" {
		t.Errorf("address %s", got)
	}
}

func TestConfigurationIsWritten(t *testing.T) {
	n := testNode(t)
	if err := n.Write(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"containerd.toml": n.file(socket), "kubelet.yaml": "cgroupRoot: /" + n.ID(), "cni/10-lab.conflist": `"bridge":"` + n.ID() + `"`,
	} {
		data, err := os.ReadFile(n.file(name))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s does not say %s (%v):\n%s", name, want, err, data)
		}
	}
}

// A node in a network namespace of its own has an address there, and pods with names, Services and a way out.
func TestNodeApart(t *testing.T) {
	n := testNode(t)
	n.Apart = &Apart{Address: netip.MustParseAddr("198.18.0.11"), DNS: netip.MustParseAddr("10.97.0.10"), ProxyKubeconfig: "/k"}
	if err := n.Write(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"kubelet.yaml":        {"address: 198.18.0.11", "- 10.97.0.10", "clusterDomain: cluster.local"},
		"cni/10-lab.conflist": {`"hairpinMode":true`, `"dst":"0.0.0.0/0"`, `"portmap"`},
		"kube-proxy.yaml":     {"clusterCIDR: 10.199.7.0/24", "maxPerCore: 0", "kubeconfig: /k", `hostnameOverride: "n"`},
	} {
		data, err := os.ReadFile(n.file(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(string(data), text) {
				t.Errorf("%s does not say %s:\n%s", name, text, data)
			}
		}
	}
}

// An image is the list of its parts, each named by what is in it.
func TestArchive(t *testing.T) {
	data, err := Payload([]byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, data)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 || manifest[0].RepoTags[0] != Image {
		t.Fatalf("manifest %s, %v", files["manifest.json"], err)
	}
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(files[manifest[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := files[manifest[0].Layers[0]]
	if config.RootFS.DiffIDs[0] != "sha256:"+digest(layer) {
		t.Errorf("layer %s, want %s", config.RootFS.DiffIDs[0], digest(layer))
	}
	if got := untar(t, layer)["payload"]; string(got) != "program" {
		t.Errorf("the layer's program is %q", got)
	}
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
