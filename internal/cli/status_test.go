package cli

import (
	"strings"
	"testing"

	"github.com/tessera-k8s/tessera/internal/wire"
)

func TestStatusWarnsOfASchedulerThatDoesNotAsk(t *testing.T) {
	t.Parallel()
	clusters := wire.Clusters{Clusters: []wire.Cluster{{Name: "quiet"}, {Name: "odd", UnaskedBinds: 3, LastUnaskedBind: "shop/web-0"}}}
	var out strings.Builder
	if err := printStatus(&out, clusters); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := "Warning: odd: scheduler does not call the extender: 3 pods were bound without it (last: shop/web-0)"
	if len(lines) != 4 || lines[3] != want {
		t.Errorf("printed\n%s\nwant the last of 4 lines to be\n%s", out.String(), want)
	}
}
