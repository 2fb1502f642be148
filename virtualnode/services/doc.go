// Package services brings the Services of the upper cluster to lower ones, so that pods find each other by name wherever they run.
//
// In isolated clusters a Service keeps its selector, and the lower cluster's own controllers find the pods. In flat networks it has
// none: a Keeper for each virtual node writes EndpointSlices from the lower pods of all clusters that take part, which Hub knows, and
// from what the upper cluster's slices say of its own nodes. Kubernetes' own reconciler (k8s.io/endpointslice) makes the slices.
package services
