// Command coredns is CoreDNS with the plugins that a cluster's DNS needs. The full set is 80 MB and takes twice as long to compile.
package main

import (
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"        // plugin bind
	_ "github.com/coredns/coredns/plugin/cache"       // plugin cache
	_ "github.com/coredns/coredns/plugin/errors"      // plugin errors
	_ "github.com/coredns/coredns/plugin/health"      // plugin health
	_ "github.com/coredns/coredns/plugin/kubernetes"  // plugin kubernetes
	_ "github.com/coredns/coredns/plugin/loadbalance" // plugin loadbalance
	_ "github.com/coredns/coredns/plugin/log"         // plugin log
	_ "github.com/coredns/coredns/plugin/metrics"     // plugin prometheus
	_ "github.com/coredns/coredns/plugin/ready"       // plugin ready
	_ "github.com/coredns/coredns/plugin/reload"      // plugin reload
	_ "github.com/coredns/coredns/plugin/rewrite"     // plugin rewrite
	_ "github.com/coredns/coredns/plugin/template"    // plugin template
)

// plugins are the names of the packages above. The order in which they see a question stays that of CoreDNS.
var plugins = []string{
	"bind", "cache", "errors", "health", "kubernetes", "loadbalance", "log", "prometheus", "ready", "reload", "rewrite", "template",
}

func main() {
	dnsserver.Directives = slices.DeleteFunc(dnsserver.Directives, func(name string) bool { return !slices.Contains(plugins, name) })
	coremain.Run()
}
