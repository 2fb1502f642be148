// Package manifests holds the objects that an installation of Tessera needs: base for the upper cluster, lower for
// each lower one, components and overlays for choices. They are plain kustomize folders; Files gives them to programs.
package manifests

import "embed"

// Files has every file of this folder that kubectl reads, under the same names: base/extender/rbac.yaml, ...
//
//go:embed base components lower overlays
var Files embed.FS
