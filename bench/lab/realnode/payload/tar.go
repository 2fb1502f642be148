package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tarball does `tar cf - FILE` and `tar -xmf - -C FOLDER`, for files alone.
func tarball(args []string) error {
	if len(args) == 3 && strings.Contains(args[0], "c") {
		return pack(args[2])
	}
	folder := "."
	if at := slices.Index(args, "-C"); at >= 0 && at+1 < len(args) {
		folder = args[at+1]
	}
	return unpack(folder)
}

func pack(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	out := tar.NewWriter(os.Stdout)
	if err := out.WriteHeader(&tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(out, file); err != nil {
		return err
	}
	return out.Close()
}

func unpack(folder string) error {
	for in := tar.NewReader(os.Stdin); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("%s leaves the folder", header.Name)
		}
		file, err := os.Create(filepath.Join(folder, header.Name))
		if err != nil {
			return err
		}
		if _, err := io.Copy(file, in); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
}
