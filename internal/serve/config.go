package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// Config is the part of a daemon's configuration that says where and how it listens. It is embedded in the
// configuration of each part, so its keys stand at the top level of the file.
type Config struct {
	// Listen is the address of the TLS listener, host:port; empty for none.
	Listen string `json:"listen,omitempty"`
	// CertFile and KeyFile are the serving certificate and its key, PEM; read again when they change.
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	// ClientCAFile is the CA of client certificates, PEM. Routes that ask for one refuse other callers.
	ClientCAFile string `json:"clientCAFile,omitempty"`
	// InsecureLoopback opens a plain listener on 127.0.0.1:InsecurePort without any check of the caller.
	InsecureLoopback bool `json:"insecureLoopback,omitempty"`
	InsecurePort     int  `json:"insecurePort,omitempty"`
	// LogLevel is debug, info (default), warn or error.
	LogLevel string `json:"logLevel,omitempty"`

	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) // where no files are named; nil: they have to be
}

// SetCertificate says what gives the serving certificate where the configuration names no files. get must not block.
func (c *Config) SetCertificate(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) {
	c.certificate = get
}

// Validate reports every fault of the listening configuration at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Listen == "" && !c.InsecureLoopback {
		errs = append(errs, errors.New("listen: no listener: set listen (TLS), or insecureLoopback and insecurePort"))
	}
	if c.Listen != "" && (c.CertFile == "" || c.KeyFile == "") && (c.certificate == nil || c.CertFile+c.KeyFile != "") {
		errs = append(errs, errors.New("certFile, keyFile: both are needed because listen is set"))
	}
	if c.InsecureLoopback && (c.InsecurePort < 1 || c.InsecurePort > 65535) {
		errs = append(errs, fmt.Errorf("insecurePort: %d is not a port (1 to 65535)", c.InsecurePort))
	}
	if _, err := c.level(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Config) level() (slog.Level, error) {
	var level slog.Level
	if c.LogLevel == "" {
		return level, nil
	}
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return level, fmt.Errorf("logLevel: %q is none of debug, info, warn, error", c.LogLevel)
	}
	return level, nil
}

// Logger returns the logger of a daemon: text on standard error with the part's name.
func (c *Config) Logger(part string) *slog.Logger {
	level, _ := c.level() // Validate has reported a bad one.
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("part", part)
}

// Validator is a configuration that can judge itself.
type Validator interface {
	// Validate returns all faults joined, each naming the key and the fix.
	Validate() error
}

// Load reads a YAML file over the defaults already in config. Unknown keys and bad values are errors that name
// the file and the key.
func Load(path string, config Validator) error {
	if path == "" {
		return errors.New("--config: no file given; --help lists its keys")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, config); err != nil {
		return fmt.Errorf("reading configuration %s: %s", path, plain(err))
	}
	if err := config.Validate(); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// plain takes the layers of decoder prefixes off an error so that the key stands first.
func plain(err error) string {
	text := err.Error()
	for _, prefix := range []string{"error unmarshaling JSON: ", "error converting YAML to JSON: ", "while decoding JSON: ", "json: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// ConfigHelp documents the keys of Config, for the --help of every part.
const ConfigHelp = `listen: ""                   address of the TLS listener, host:port; empty: none
certFile: ""                 serving certificate, PEM; read again when it changes
keyFile: ""                  its key
clientCAFile: ""             CA of the client certificates that may call, PEM
insecureLoopback: false      plain listener on 127.0.0.1 without any check, for labs
insecurePort: 0              its port
logLevel: info               debug, info, warn or error
`

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ")
}
