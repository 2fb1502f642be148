package admission

import (
	"errors"
	"fmt"
	"net"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tessera-k8s/tessera/admission/certificate"
	"github.com/tessera-k8s/tessera/admission/mutate"
	"github.com/tessera-k8s/tessera/internal/keys"
	"github.com/tessera-k8s/tessera/internal/serve"
)

// Config is the file given to `tessera admission --config`.
type Config struct {
	serve.Config `json:",inline"`
	Given        `json:",inline"`
	// OwnCertificate is the serving certificate that admission makes and renews where no files are named.
	OwnCertificate OwnCertificate `json:"ownCertificate"`
	// UpperKubeconfig is the file to reach the upper cluster with, for the annotations of namespaces and the own certificate; empty inside
	// of it.
	UpperKubeconfig string `json:"upperKubeconfig,omitempty"`
	// Namespace is where the Secret of the own certificate is, and the Service by which API servers call.
	Namespace string `json:"namespace,omitempty"`
	// DefaultToleration is the time that the upper API server has pods tolerate a lost node if they say nothing.
	DefaultToleration metav1.Duration `json:"defaultToleration"`

	keeper *certificate.Keeper
}

// OwnCertificate is a serving certificate that admission looks after by itself.
type OwnCertificate struct {
	// Secret has it, and the authority that has signed it.
	Secret string `json:"secret"`
	// Webhooks is the MutatingWebhookConfiguration that is called with it.
	Webhooks string `json:"webhooks"`
	// Names are DNS names and IP addresses that it is for beside tessera-admission.NAMESPACE.svc.
	Names []string `json:"names,omitempty"`
	// Life and AuthorityLife are how long it and its authority are good for. Both are renewed after two thirds.
	Life          metav1.Duration `json:"life"`
	AuthorityLife metav1.Duration `json:"authorityLife"`
	// Overlap is how long a new authority is made known before it is used.
	Overlap metav1.Duration `json:"overlap"`
}

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() *Config {
	day := 24 * time.Hour
	c := &Config{
		Given: Given{Policy: keys.PolicyOnly}, DefaultToleration: metav1.Duration{Duration: 5 * time.Minute}, Namespace: keys.Namespace,
		OwnCertificate: OwnCertificate{
			Secret: "tessera-admission-cert", Webhooks: "tessera",
			Life: metav1.Duration{Duration: 90 * day}, AuthorityLife: metav1.Duration{Duration: 3 * 365 * day},
			Overlap: metav1.Duration{Duration: 2 * time.Minute},
		},
		keeper: &certificate.Keeper{},
	}
	c.SetCertificate(c.keeper.Certificate)
	return c
}

// own reports whether admission makes its serving certificate itself.
func (c *Config) own() bool { return c.Listen != "" && c.CertFile == "" }

// Validate reports every fault at once, each with the key and what to do.
func (c *Config) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Listen == "" {
		errs = append(errs, errors.New("listen: give host:port, because API servers call webhooks over TLS only"))
	}
	errs = append(errs, c.settings().Validate())
	if c.own() {
		errs = append(errs, c.OwnCertificate.validate())
		if len(validation.IsDNS1123Label(c.Namespace)) > 0 {
			errs = append(errs, fmt.Errorf("namespace: %q is no name of a namespace: the own certificate goes there", c.Namespace))
		}
	}
	return errors.Join(errs...)
}

func (o *OwnCertificate) validate() error {
	var errs []error
	for key, name := range map[string]string{"secret": o.Secret, "webhooks": o.Webhooks} {
		if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
			errs = append(errs, fmt.Errorf("ownCertificate.%s: %q is no name of an object: %s", key, name, faults[0]))
		}
	}
	for _, name := range o.Names {
		if net.ParseIP(name) == nil && len(validation.IsDNS1123Subdomain(name)) > 0 {
			errs = append(errs, fmt.Errorf("ownCertificate.names: %q is neither a DNS name nor an IP address", name))
		}
	}
	if o.Life.Duration <= 0 || o.AuthorityLife.Duration < o.Life.Duration {
		errs = append(errs, fmt.Errorf("ownCertificate.life: %s has to be more than nothing, and no more than authorityLife, %s",
			o.Life.Duration, o.AuthorityLife.Duration))
	}
	if o.Overlap.Duration < 0 || o.Overlap.Duration > o.Life.Duration/6 { // What was due before it began ends with a third.
		errs = append(errs, fmt.Errorf("ownCertificate.overlap: %s is not between 0 and a sixth of life, %s",
			o.Overlap.Duration, o.Life.Duration))
	}
	return errors.Join(errs...)
}

// settings are those for mutate.
func (c *Config) settings() mutate.Settings { return c.Given.settings(c.DefaultToleration.Duration) }

// configHelp documents every key; a test compares it with Config.
const configHelp = `defaultToleration: 5m        how long the upper API server has pods tolerate a lost node if they say nothing (its flag
                             --default-unreachable-toleration-seconds); pods with any other time keep it
ownCertificate:              where certFile and keyFile are empty: admission makes and renews its certificate and the authority
  secret: tessera-admission-cert
                             that has signed it, in this Secret, from which all replicas serve
  webhooks: tessera          the MutatingWebhookConfiguration whose caBundle it keeps
  names: []                  DNS names and IP addresses beside tessera-admission.NAMESPACE.svc
  life: 2160h                of the certificate, and
  authorityLife: 26280h      of its authority: both are renewed after two thirds; API servers believe the old and the new one
  overlap: 2m                how long a new authority is known before it is used
upperKubeconfig: ""          kubeconfig of the upper cluster, for that and for what namespaces say; empty inside of it
namespace: tessera-system    namespace of that Secret and of the Service tessera-admission
` + givenHelp + serve.ConfigHelp

const example = `  # admission.yaml
  listen: 0.0.0.0:10260              # API servers call webhooks over TLS only

  # with a certificate of yours, and no account of its own
  listen: 0.0.0.0:10260
  certFile: /etc/tessera/cert/tls.crt
  keyFile: /etc/tessera/cert/tls.key
  clientCAFile: /etc/tessera/cert/ca.crt   # who may read /metrics over TLS; default: nobody

  tessera admission --config admission.yaml`
