// Package namespaces keeps the lower namespaces of a virtual node's pods: it makes them, carries labels down, takes
// them away once nobody needs them, and stays out of those that belong to others.
package namespaces
