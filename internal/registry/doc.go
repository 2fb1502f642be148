// Package registry says which lower clusters there are: a folder of kubeconfigs, watched, and the tokens by which their API servers
// are reached, the renewed ones too.
package registry
