// Command payload is what containers on a real node run. Its arguments are steps, done one after the other; without any it
// ends at once with code 0.
//
//	append=FILE:TEXT   add a line to a file
//	until=FILE         wait until the file is there
//	serve=PORT         answer HTTP with 200 and the name of the pod from now on
//	fetch=URL          print what an HTTP server answers with 200
//	ask=FILE:PATH      GET a path of the API server as a client library does in a cluster, and add the code to a file
//	changes=FILE       wait until the file's text is another one
//	print=TEXT         print a line
//	warn=TEXT          print a line to standard error
//	lines=COUNT:BYTES  print so many lines of so many bytes, numbered from 1, as fast as they are taken
//	echo               print what is typed, until there is no more
//	link=FILE          print where a symbolic link leads
//	tick=DURATION      print a number at this pace, until SIGTERM
//	burn=MILLICORES    use so much of a processor, until SIGTERM
//	hold=MEBIBYTES     take that much memory, and keep it
//	wait               wait for SIGTERM
//	sleep=DURATION     go on later
//	report=FILE        make the file's text the container's termination message
//	exit=CODE          end with that code
//
// By the name of tar it does what kubectl cp wants of that.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// terminationLog is where a kubelet looks for the last words of a container.
const terminationLog = "/dev/termination-log"

func main() {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM) // at once: the first process of a container ignores what it does not handle
	if path.Base(os.Args[0]) == "tar" {
		if err := tarball(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "tar: %v\n", err)
			os.Exit(2)
		}
		return
	}
	for _, argument := range os.Args[1:] {
		name, value, _ := strings.Cut(argument, "=")
		if err := step(name, value, terminated); err != nil {
			fmt.Fprintf(os.Stderr, "payload: %s: %v\n", argument, err)
			os.Exit(99)
		}
	}
}

func step(name, value string, terminated <-chan os.Signal) error {
	switch name {
	case "append":
		file, text, _ := strings.Cut(value, ":")
		return appendLine(file, text)
	case "until":
		return until(value)
	case "serve":
		return serve(value)
	case "fetch":
		return fetch(value)
	case "ask":
		file, path, _ := strings.Cut(value, ":")
		return ask(file, path)
	case "changes":
		return changes(value)
	case "burn", "hold":
		return use(name, value, terminated)
	case "wait":
		<-terminated
		return nil
	case "print", "warn", "lines", "echo", "link", "tick":
		return say(name, value, terminated)
	case "sleep":
		d, err := time.ParseDuration(value)
		time.Sleep(d)
		return err
	case "report":
		data, err := os.ReadFile(value)
		if err != nil {
			return err
		}
		return os.WriteFile(terminationLog, data, 0o644)
	case "exit":
		code, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		os.Exit(code)
	}
	return fmt.Errorf("there is no step %q", name)
}

// say does the steps that print.
func say(name, value string, terminated <-chan os.Signal) error {
	switch name {
	case "warn":
		_, err := fmt.Fprintln(os.Stderr, value)
		return err
	case "lines":
		return lines(value)
	case "echo":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "link":
		target, err := os.Readlink(value)
		fmt.Println(target)
		return err
	case "tick":
		pace, err := time.ParseDuration(value)
		if err != nil {
			return err
		}
		for i := 1; ; i++ {
			fmt.Println(i)
			select {
			case <-terminated:
				return nil
			case <-time.After(pace):
			}
		}
	}
	fmt.Println(value)
	return nil
}

// lines prints numbers with zeros before them, so that whoever reads them can tell what is missing.
func lines(value string) error {
	var count, size int
	if _, err := fmt.Sscanf(value, "%d:%d", &count, &size); err != nil {
		return err
	}
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for i := range count {
		fmt.Fprintf(out, "%0*d\n", size-1, i+1)
	}
	return out.Flush()
}

// serve answers whatever is asked. It does without net/http, of which a container would have to be given ten times as much.
func serve(port string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096)) // a probe's request fits, and who has gone needs no answer
			_, _ = conn.Write([]byte("HTTP/1.0 200 OK\r\n\r\n" + name + "\n"))
			_ = conn.Close()
		}
	}()
	return nil
}

// fetchWithin bounds the way to a server and back.
const fetchWithin = 3 * time.Second

// fetch prints the body that a server answers with. The URL is http://NAME[:PORT][/PATH].
func fetch(url string) error {
	server, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	address := server
	if !strings.Contains(server, ":") {
		address += ":80"
	}
	conn, err := net.DialTimeout("tcp", address, fetchWithin)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(fetchWithin)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n", path, server); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	if fields := strings.Fields(head); len(fields) < 2 || fields[1] != "200" {
		return fmt.Errorf("the answer is %q", head)
	}
	fmt.Print(body)
	return nil
}

// accountFolder is where a pod has the token of its account.
const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount/"

// ask asks the API server that the environment names with the token of the pod's account.
func ask(file, path string) error {
	authority, err := os.ReadFile(accountFolder + "ca.crt")
	if err != nil {
		return err
	}
	token, err := os.ReadFile(accountFolder + "token")
	if err != nil {
		return err
	}
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(authority)
	host := os.Getenv("KUBERNETES_SERVICE_HOST")
	dialer := &net.Dialer{Timeout: fetchWithin}
	conn, err := tls.DialWithDialer(dialer, "tcp", net.JoinHostPort(host, os.Getenv("KUBERNETES_SERVICE_PORT")), &tls.Config{RootCAs: known})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(fetchWithin)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, host, token); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	fields := strings.Fields(string(answer))
	if len(fields) < 2 {
		return fmt.Errorf("the answer is %q", answer)
	}
	return appendLine(file, fields[1])
}

// changes waits until a file has another text.
func changes(file string) error {
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for {
		now, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(before, now) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func appendLine(file, text string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, text)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

func until(file string) error {
	for {
		if _, err := os.Stat(file); err == nil || !os.IsNotExist(err) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
