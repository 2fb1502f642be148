package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// shown is what Nodes are shown with in place of what they have: specs choose among Nodes without taints, and by their host names, which
// virtual nodes do not carry. That pods tolerate the taint, and come to a machine of that name, is looked after by others.
type shown struct {
	taint    string // not to be seen
	hostname string // what follows the Node's name in that of a machine of it; "" for no host names
}

// proxied starts a proxy to the API server of a kubeconfig that shows its Nodes so, and returns a kubeconfig for that.
func (s shown) proxied(kubeconfig string) (string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.NextProtos = []string{"http/1.1"} // Streams change the protocol of their connections.
	transport, err := rest.TransportFor(config)
	if err != nil {
		return "", fmt.Errorf("reading the kubeconfig: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(server)
			r.Out.Header.Del("Accept-Encoding")
			r.Out.Header.Del("Authorization")
		},
		Transport: transport, FlushInterval: -1,
		ModifyResponse: s.rewrite,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	// The proxy has the rights of the kubeconfig, and the whole machine reaches it: who does not know the path is told nothing. A token
	// would not be sent, as there is no TLS.
	path := "/" + rand.Text()
	go func() { _ = (&http.Server{Handler: http.StripPrefix(path, proxy)}).Serve(listener) }() // It ends with the process.
	file := filepath.Join(os.TempDir(), fmt.Sprintf("e2e-%d.kubeconfig", os.Getpid()))
	own := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: "http://" + listener.Addr().String() + path}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		CurrentContext: "c",
	}
	return file, clientcmd.WriteToFile(own, file)
}

// rewrite changes an answer that holds Nodes.
func (s shown) rewrite(r *http.Response) error {
	request := r.Request
	name, isNode := strings.CutPrefix(request.URL.Path, "/api/v1/nodes")
	if !isNode || strings.Count(name, "/") > 1 || request.Method != http.MethodGet || r.StatusCode != http.StatusOK ||
		request.URL.Query().Get("watch") != "" {
		return nil
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	_ = r.Body.Close()
	var object any
	if name == "" {
		list := &corev1.NodeList{}
		err = json.Unmarshal(data, list)
		for i := range list.Items {
			s.change(&list.Items[i])
		}
		object = list
	} else {
		node := &corev1.Node{}
		err = json.Unmarshal(data, node)
		s.change(node)
		object = node
	}
	if err != nil {
		return fmt.Errorf("reading Nodes: %w", err)
	}
	if data, err = json.Marshal(object); err != nil {
		return fmt.Errorf("writing Nodes: %w", err)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	r.Header.Del("Content-Length")
	return nil
}

func (s shown) change(node *corev1.Node) {
	node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == s.taint })
	if s.hostname != "" && node.Labels[corev1.LabelHostname] == "" {
		metav1.SetMetaDataLabel(&node.ObjectMeta, corev1.LabelHostname, node.Name+s.hostname)
	}
}
