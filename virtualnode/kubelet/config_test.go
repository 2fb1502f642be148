package kubelet

import (
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func configKeys() map[string]bool {
	keys := map[string]bool{}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		keys[key] = true
	}
	return keys
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{}":                           "",
		"{enabled: false}":             "",
		"{address: 192.0.2.1}":         "",
		"{address: nodes.example.com}": "",
		"{addressType: InternalIP, bind: 127.0.0.1, ports: 10300-10300, certFile: a, keyFile: b, clientCAFile: c}": "",
		"{signerCertFile: a, signerKeyFile: b}": "",
		"{address: 'https://192.0.2.1'}":        `kubelet: address: "https://192.0.2.1" is neither an IP nor a name`,
		"{addressType: ExternalIP}":             `kubelet: addressType: "ExternalIP" is none of Hostname, InternalIP`,
		"{bind: localhost}":                     `kubelet: bind: "localhost" is no IP`,
		"{ports: 10250}":                        `kubelet: ports: "10250" is no range of ports such as 10300-10399`,
		"{ports: 20-10}":                        `kubelet: ports: "20-10" is no range`,
		"{ports: 1-70000}":                      `kubelet: ports: "1-70000" is no range`,
		"{ports: a-b}":                          `kubelet: ports: "a-b" is no range`,
		"{certFile: a}":                         "kubelet: certFile, keyFile: both or none",
		"{signerKeyFile: a}":                    "kubelet: signerCertFile, signerKeyFile: both or none",
		"{certFile: a, keyFile: b, signerCertFile: c, signerKeyFile: d}": "kubelet: certFile, signerCertFile: there is nothing to sign",
	} {
		config := DefaultConfig()
		if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
			t.Fatal(err)
		}
		err := config.Validate()
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
