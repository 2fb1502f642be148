//go:build !linux

package main

import "context"

// platformCommands is empty where kubelet and kube-proxy do not build.
func platformCommands(context.Context) map[string]func() { return nil }
