// Package standin is one process that stands in for the API servers, schedulers and kubelets of any number of lower clusters,
// so that Tessera's parts can be measured against more of them than a machine could run. See README.md.
package standin
