package extender

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tessera-k8s/tessera/internal/serve"
)

func TestConfig(t *testing.T) {
	good := "clusters: /c\ninsecureLoopback: true\ninsecurePort: 1\n"
	cases := map[string]struct{ text, want string }{
		"good":               {good, ""},
		"unknown key":        {good + "clustres: x\n", `unknown field "clustres"`},
		"no clusters":        {"insecureLoopback: true\ninsecurePort: 1\n", "clusters:"},
		"no listener":        {"clusters: /c\n", "listen:"},
		"bad answer":         {good + "filterAnswer: some\n", "filterAnswer:"},
		"bad duration":       {good + "maxViewAge: soon\n", "invalid duration"},
		"no positive age":    {good + "maxViewAge: 0s\n", "maxViewAge:"},
		"negative settle":    {good + "settle: -1s\n", "settle:"},
		"bad level":          {good + "logLevel: loud\n", "logLevel:"},
		"bad port":           {"clusters: /c\ninsecureLoopback: true\n", "insecurePort:"},
		"TLS without a cert": {good + "listen: :1\n", "certFile"},
		"no YAML":            {"clusters: [", "reading configuration"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "extender.yaml")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := serve.Load(path, DefaultConfig())
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v does not say %q", err, test.want)
			}
		})
	}
}

func TestHelpNamesEveryKey(t *testing.T) {
	for _, kind := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[serve.Config]()} {
		for field := range kind.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key != "" && !strings.Contains("\n"+configHelp, "\n"+key+": ") {
				t.Errorf("--help does not document %q", key)
			}
		}
	}
}
