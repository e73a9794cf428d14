package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// proxy is a real nginx or Caddy with a configuration of deploy/.
type proxy struct {
	name string
	port string // of https
	http string // the port that redirects to https
	dir  string
	ca   string // file of the certificate that signs the proxy's
	said lockedBuffer
}

// severalCaddy is the name of Caddy's sample for several replicas.
const severalCaddy = "Caddy, several"

// proxies are the samples of deploy/: how each is started, and whether it is for two replicas.
var proxies = map[string]struct {
	start func(t *testing.T, replicas ...string) *proxy
	many  bool
}{
	"nginx":      {startNginx, true},
	"Caddy":      {startCaddy("../deploy/caddy/Caddyfile", "reverse_proxy 127.0.0.1:8000 {"), false},
	severalCaddy: {startCaddy("../deploy/caddy/replicas.Caddyfile", "reverse_proxy 127.0.0.1:8000 127.0.0.1:8010 {"), true},
}

func (p *proxy) url() string { return "https://localhost:" + p.port }

// from returns an HTTP client that trusts the proxy, at an address of its own.
func (p *proxy) from(t *testing.T, addr string, http2 bool) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(p.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("%s has no certificate", p.ca)
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	transport := &http.Transport{
		ForceAttemptHTTP2: http2, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", "127.0.0.1:"+p.port)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// newProxy makes the folder and the ports of a proxy.
func newProxy(t *testing.T, name string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "cloudbot-proxy-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // machines read the CA
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &proxy{name: name, port: freePort(t), http: freePort(t), dir: dir, ca: filepath.Join(dir, "ca.pem")}
}

// run starts the program and waits until it accepts connections and ready is true.
func (p *proxy) run(t *testing.T, cmd *exec.Cmd, ready func() bool) {
	t.Helper()
	ended := make(chan struct{})
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &p.said, &p.said
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run deploy/prerequisites.sh test", err)
	}
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, p.said.tail(4000))
		}
	})
	await(t, time.Minute, p.name, func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended:\n%s", p.name, p.said.tail(4000))
		default:
		}
		conn, err := net.Dial("tcp", "127.0.0.1:"+p.port)
		if err != nil {
			return false
		}
		conn.Close()
		return ready()
	})
}

// change replaces each text, which must occur, in a sample.
func change(t *testing.T, path string, pairs ...string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if !bytes.Contains(text, []byte(pairs[i])) {
			t.Fatalf("%s does not contain %q", path, pairs[i])
		}
		text = bytes.ReplaceAll(text, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	return string(text)
}

// startNginx runs nginx on the sample, with what its page says to change: name, certificate and replicas. The rest of
// its configuration is what Debian's has, including the compression that the sample must switch off.
func startNginx(t *testing.T, replicas ...string) *proxy {
	t.Helper()
	p := newProxy(t, "nginx")
	p.certify(t)
	second := "    server 127.0.0.1:8010 max_fails=1 fail_timeout=2s;\n"
	changed := ""
	if len(replicas) > 1 {
		changed = strings.ReplaceAll(second, "8010", replicas[1])
	}
	sample := change(t, "../deploy/nginx/cloudbot.conf",
		second, changed, "127.0.0.1:8000", "127.0.0.1:"+replicas[0], "cloudbot.example", "localhost",
		"/etc/ssl/cloudbot/fullchain.pem", filepath.Join(p.dir, "cert.pem"), "/etc/ssl/cloudbot/privkey.pem", filepath.Join(p.dir, "key.pem"),
		"listen [::]:80;", "", "listen [::]:443 ssl http2;", "", "listen 80;", "listen 127.0.0.1:"+p.http+";", "listen 443 ssl http2;", "listen 127.0.0.1:"+p.port+" ssl http2;")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	main := fmt.Sprintf(`daemon off; worker_processes 1; pid nginx.pid; error_log stderr warn; %s
events { worker_connections 1000; }
http {
	access_log off; gzip on; gzip_proxied any; gzip_types *;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	include cloudbot.conf;
}`, user)
	for name, text := range map[string]string{"cloudbot.conf": sample, "nginx.conf": main} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.run(t, exec.Command(program("nginx", "/usr/sbin/nginx"), "-p", p.dir, "-c", filepath.Join(p.dir, "nginx.conf")), func() bool { return true })
	return p
}

// startCaddy returns a function that runs Caddy on a sample, with what its page says to change: the name, the replicas,
// and the comment before "tls internal".
func startCaddy(file, line string) func(t *testing.T, replicas ...string) *proxy {
	return func(t *testing.T, replicas ...string) *proxy {
		t.Helper()
		p := newProxy(t, "Caddy")
		p.ca = filepath.Join(p.dir, "caddy/pki/authorities/local/root.crt")
		to := "reverse_proxy"
		for _, port := range replicas {
			to += " 127.0.0.1:" + port
		}
		sample := change(t, file, "cloudbot.example {", "localhost {", "#tls internal", "tls internal", line, to+" {")
		ports := fmt.Sprintf("{\n\tdebug\n\tadmin off\n\thttp_port %s\n\thttps_port %s\n\tdefault_bind 127.0.0.1\n\tskip_install_trust\n", p.http, p.port)
		sample = strings.Replace(sample, "{\n", ports, 1)
		path := filepath.Join(p.dir, "Caddyfile")
		if err := os.WriteFile(path, []byte(sample), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program("caddy", "/usr/bin/caddy"), "run", "--config", path)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "XDG_DATA_HOME=" + p.dir, "XDG_CONFIG_HOME=" + p.dir}
		p.run(t, cmd, func() bool {
			if !exists(p.ca) {
				return false
			}
			conn, err := tls.Dial("tcp", "127.0.0.1:"+p.port, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}) // it may still sign its certificate
			if err != nil {
				return false
			}
			return errors.Join(conn.Close(), p.readable()) == nil
		})
		return p
	}
}

// readable lets machines, which have users of their own, read Caddy's CA.
func (p *proxy) readable() error {
	for dir := filepath.Dir(p.ca); len(dir) > len(p.dir); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(p.ca, 0o644)
}

// certify makes a CA and nginx's certificate.
func (p *proxy) certify(t *testing.T) {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = template, key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	ca, signer := make(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	cert, key := make(&x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, signer)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: ca.Raw}, "cert.pem": {Type: "CERTIFICATE", Bytes: cert.Raw}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), pem.EncodeToMemory(block), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// program returns a program's path. Some are not on every user's PATH.
func program(name, usual string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return usual
}
