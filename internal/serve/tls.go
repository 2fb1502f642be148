package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// tlsConfig returns the configuration of the TLS listener. Certificate and CA are looked at again when a
// connection arrives and their files have changed, so a rotation needs no restart.
//
// HTTP/2 is not offered: on a black-holed connection kube-scheduler's transport loses 45 s with it, and one call
// without.
func (c *Config) tlsConfig() (*tls.Config, error) {
	files := &certFiles{cert: c.CertFile, key: c.KeyFile, clientCA: c.ClientCAFile}
	if c.CertFile == "" {
		files.own = c.certificate
	}
	if _, err := files.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return files.load() },
	}, nil
}

// Certificate returns what a TLS listener calls for its certificate: that of two files, looked at again when they have changed.
func Certificate(certFile, keyFile string) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	files := &certFiles{cert: certFile, key: keyFile}
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		config, err := files.load()
		if err != nil {
			return nil, err
		}
		return &config.Certificates[0], nil
	}
	_, err := get(nil)
	return get, err
}

// certFiles caches what the certificate files hold.
type certFiles struct {
	cert, key, clientCA string
	own                 func(*tls.ClientHelloInfo) (*tls.Certificate, error) // in place of cert and key

	mu     sync.Mutex
	stamp  time.Time // newest change of the files that config was read from
	config *tls.Config
}

func (f *certFiles) load() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamp, err := newest(f.cert, f.key, f.clientCA)
	if f.config != nil && (err != nil || stamp.Equal(f.stamp)) {
		return f.config, nil // A file that is being replaced leaves the last good pair in use.
	}
	if err != nil {
		return nil, fmt.Errorf("reading serving certificate: %w", err)
	}
	config, err := f.read()
	if err != nil {
		if f.config != nil {
			return f.config, nil
		}
		return nil, err
	}
	f.stamp, f.config = stamp, config
	return config, nil
}

func (f *certFiles) read() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: f.own}
	if f.own == nil {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("reading serving certificate %s: %w", f.cert, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if f.clientCA == "" {
		return config, nil
	}
	data, err := os.ReadFile(f.clientCA)
	if err != nil {
		return nil, fmt.Errorf("reading clientCAFile: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("reading clientCAFile %s: no certificate in it", f.clientCA)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	return config, nil
}

func newest(paths ...string) (time.Time, error) {
	var latest time.Time
	for _, path := range paths {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return latest, err
		}
		if info.ModTime().After(latest) {
			latest = info.ModTime()
		}
	}
	return latest, nil
}
