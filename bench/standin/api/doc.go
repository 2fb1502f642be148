// Package api answers as the API server of one lower cluster: list, watch, get and writes over HTTP, in the forms that
// client-go asks for. It decides nothing about pods: package play does, as scheduler, kubelet and controllers do.
package api
