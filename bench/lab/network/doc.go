// Package network gives each cluster of a lab a network namespace of its own. A bridge in one more namespace joins them; the
// machine's own links, routes, rules and settings stay as they are.
//
// The namespaces have no names and no process that holds them: only the lab's open files do. Whatever ends the lab, the kernel
// takes them away once the processes inside have ended. A Forwarder lets programs on the machine reach a port of a namespace
// at the same port of 127.0.0.1.
package network
