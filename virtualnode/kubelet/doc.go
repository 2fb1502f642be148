// Package kubelet is the kubelet API of a virtual node: what kube-apiserver asks for `kubectl logs`, `exec`, `attach` and
// `port-forward`. It says who may ask as a kubelet does, finds the lower pod by the UID of the upper one, and hands the request on
// to the lower API server (httputil.ReverseProxy over HTTP/1.1): streams are Kubernetes' own on both sides.
package kubelet
