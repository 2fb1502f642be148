// Command helm is Helm.
package main
