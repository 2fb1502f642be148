package kubelet

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Config is the key kubelet of virtualnode's configuration.
type Config struct {
	// Enabled has the virtual nodes answer kubectl logs, exec, attach and port-forward.
	Enabled bool `json:"enabled"`
	// Address is that at which the upper API server reaches this process, an IP or a name; empty: the environment variable POD_IP, else
	// the address from which this process reaches the upper API server.
	Address string `json:"address,omitempty"`
	// AddressType is the type of the address in the Node's status.
	AddressType corev1.NodeAddressType `json:"addressType,omitempty"`
	// Bind is the address to listen on; empty: all.
	Bind string `json:"bind,omitempty"`
	// Ports is the range FIRST-LAST of ports, one for each virtual node.
	Ports string `json:"ports,omitempty"`
	// CertFile and KeyFile are the serving certificate and its key, PEM; read again when they change.
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	// SignerCertFile and SignerKeyFile are a CA that signs serving certificates for the address, PEM.
	SignerCertFile string `json:"signerCertFile,omitempty"`
	SignerKeyFile  string `json:"signerKeyFile,omitempty"`
	// ClientCAFile is the CA of the upper API server's client certificate, PEM; empty: what the upper cluster's ConfigMap
	// kube-system/extension-apiserver-authentication says.
	ClientCAFile string `json:"clientCAFile,omitempty"`
}

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() Config {
	return Config{Enabled: true, AddressType: corev1.NodeHostName, Ports: "10300-10399"}
}

// Help documents every key of Config; a test compares the two.
const Help = `kubelet:                     the kubelet API of virtual nodes: kubectl logs, exec, attach, port-forward, cp, debug
  enabled: true              false: kubectl logs says "no preferred addresses found"
  address: ""                IP or name at which the upper API server reaches this process; empty: the variable POD_IP, else
                             the address from which this process reaches the upper API server
  addressType: Hostname      its type in the Node's status: Hostname, or InternalIP where the API server looks at that alone
  bind: ""                   address to listen on; empty: all
  ports: 10300-10399         one port of these for each virtual node, which it keeps
  certFile: ""               serving certificate, PEM, read again when it changes; empty: one that is made for the address
  keyFile: ""                its key
  signerCertFile: ""         CA that signs the certificates that are made, PEM, for --kubelet-certificate-authority of the upper
                             API server; empty: they are signed by themselves
  signerKeyFile: ""          its key
  clientCAFile: ""           CA of the upper API server's client certificate (--kubelet-client-certificate), PEM; empty: that of
                             the ConfigMap kube-system/extension-apiserver-authentication
`

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kubelet: "+format, args...)) }
	if _, _, err := c.PortRange(); err != nil {
		fault("ports: %w", err)
	}
	if c.Address != "" && net.ParseIP(c.Address) == nil && len(validation.IsDNS1123Subdomain(c.Address)) > 0 {
		fault("address: %q is neither an IP nor a name", c.Address)
	}
	if c.Bind != "" && net.ParseIP(c.Bind) == nil {
		fault("bind: %q is no IP", c.Bind)
	}
	types := []corev1.NodeAddressType{corev1.NodeHostName, corev1.NodeInternalIP}
	if !slices.Contains(types, c.AddressType) {
		fault("addressType: %q is none of Hostname, InternalIP", c.AddressType)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		fault("certFile, keyFile: both or none")
	}
	if (c.SignerCertFile == "") != (c.SignerKeyFile == "") {
		fault("signerCertFile, signerKeyFile: both or none")
	}
	if c.CertFile != "" && c.SignerCertFile != "" {
		fault("certFile, signerCertFile: there is nothing to sign where a certificate is given")
	}
	return errors.Join(errs...)
}

// PortRange are the first and the last port.
func (c Config) PortRange() (first, last int, err error) {
	from, to, _ := strings.Cut(c.Ports, "-")
	first, errFirst := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	if errFirst != nil || errLast != nil || first < 1 || last < first || last > 65535 {
		return 0, 0, fmt.Errorf("%q is no range of ports such as 10300-10399", c.Ports)
	}
	return first, last, nil
}
