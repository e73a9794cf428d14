package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/joho/godotenv"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// config is the settings in the environment. `.env.example` describes each of them.
type config struct {
	Environment string `env:"ENVIRONMENT" envDefault:"development"`
	Host        string `env:"HOST"`
	Port        string `env:"PORT" envDefault:"8000"`
	AdminAddr   string `env:"ADMIN_ADDR"`
	AdminToken  string `env:"ADMIN_TOKEN"`
	PublicURL   string `env:"CONTROL_PLANE_URL"`

	DatabaseURL  string `env:"DATABASE_URL"`
	NATSURL      string `env:"NATS_URL"`
	NATSListen   string `env:"NATS_LISTEN"`
	NATSReplicas int    `env:"NATS_REPLICAS"`
	EventsMaxAge string `env:"NATS_EVENTS_MAX_AGE"`
	EventsMaxMB  int64  `env:"NATS_EVENTS_MAX_MB"`
	DataDir      string `env:"DATA_DIR" envDefault:"./data"`

	JWTSecret        string `env:"JWT_SECRET_KEY"`
	JWTRefreshSecret string `env:"JWT_REFRESH_SECRET_KEY"`
	EncryptionKey    string `env:"ENCRYPTION_KEY"`

	LocalDevMode bool   `env:"LOCAL_DEV_MODE"` // default: true, in production false
	GiveShells   bool   `env:"GIVE_USERS_A_SHELL_ON_THIS_COMPUTER"`
	MachinesDir  string `env:"LOCAL_MACHINES_DIR"`
	LocalAgent   string `env:"LOCAL_AGENT"`
	EC2          ec2Config
	AssetsDir    string `env:"ASSETS_DIR"`
	MaxInstances int    `env:"MAX_INSTANCES_PER_USER" envDefault:"2"`
	MaxTotal     int    `env:"MAX_INSTANCES_TOTAL"`
	SignUp       string `env:"SIGNUP"`
	KeepChats    bool   `env:"KEEP_CHATS" envDefault:"true"`
	IdleShortest string `env:"IDLE_SHORTEST"`
	PricesFile   string `env:"PRICES_FILE"`
	MonthTotal   string `env:"BUDGET_MONTH_TOTAL"`
	Payments     paymentsConfig
	CORSOrigins  string `env:"CORS_ORIGINS"`
	Proxies      string `env:"TRUSTED_PROXIES"`
	ClientHeader string `env:"CLIENT_ADDRESS_HEADER" envDefault:"X-Forwarded-For"`
	Advertise    string `env:"ADVERTISE_URL"`

	VNCRate        int `env:"VNC_MAX_BYTES_PER_SECOND"`
	VNCAccountRate int `env:"VNC_MAX_BYTES_PER_SECOND_PER_ACCOUNT"`

	ShutdownGrace string `env:"SHUTDOWN_GRACE"`

	LogLevel  string `env:"LOG_LEVEL"`
	LogFormat string `env:"LOG_FORMAT" envDefault:"text"`

	secretFiles []string       // the files that secrets were read from
	trusted     []netip.Prefix // what Proxies lists
}

// loadConfig reads .env, which never overrides the environment, and then the environment.
func loadConfig() (config, error) {
	switch err := godotenv.Load(); {
	case errors.Is(err, fs.ErrNotExist) || err == nil:
	case errors.As(err, new(*fs.PathError)):
		return config{}, fmt.Errorf("read .env: %w", err)
	default:
		return config{}, errors.New("read .env: a line in it is not NAME=value") // the parser's own error quotes what follows, which may be a secret
	}
	files, err := readSecretFiles()
	if err != nil {
		return config{}, err
	}
	cfg, err := env.ParseAs[config]()
	if err != nil {
		return cfg, explain(err)
	}
	cfg.secretFiles = files
	if os.Getenv("LOCAL_DEV_MODE") == "" {
		cfg.LocalDevMode = !cfg.production()
	}
	host := "127.0.0.1"
	if cfg.production() {
		host = "0.0.0.0"
	}
	cfg.Host = cmp.Or(cfg.Host, host)
	cfg.PublicURL, cfg.Advertise = strings.TrimSuffix(cfg.PublicURL, "/"), strings.TrimSuffix(cfg.Advertise, "/")
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return cfg, err
	}
	if err := cfg.check(); err != nil {
		return cfg, err
	}
	cfg.trusted, err = cfg.proxies()
	return cfg, err
}

// minVNCRate is the lowest rate at which a desktop is usable: one small change of the screen per second.
const minVNCRate = 16 << 10

func (c config) production() bool { return c.Environment == "production" }

// check returns all settings that cannot work.
func (c config) check() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Environment != "development" && c.Environment != "production" && c.Environment != "test" {
		refuse("ENVIRONMENT is %q; choose development, test or production", c.Environment)
	}
	if _, err := net.LookupPort("tcp", c.Port); err != nil {
		refuse("PORT is %q; use a number from 0 to 65535", c.Port)
	}
	if c.MaxInstances < 1 || c.MaxInstances > 1000 {
		refuse("MAX_INSTANCES_PER_USER is %d; use 1 to 1000", c.MaxInstances)
	}
	for name, n := range map[string]int{"VNC_MAX_BYTES_PER_SECOND": c.VNCRate, "VNC_MAX_BYTES_PER_SECOND_PER_ACCOUNT": c.VNCAccountRate} {
		if n != 0 && n < minVNCRate {
			refuse("%s is %d; use %d or more, or 0 for no limit", name, n, minVNCRate)
		}
	}
	errs = append(errs, c.checkSignUp())
	for server := range strings.SplitSeq(c.NATSURL, ",") {
		// The parser's error is not shown, because it quotes the password.
		if u, err := url.Parse(server); server != "" && (err != nil || u.Host == "") {
			refuse("NATS_URL is not of the form nats://host:4222")
		}
	}
	switch {
	case c.NATSReplicas < 0 || c.NATSReplicas > jetstream.MaxReplicas:
		refuse("NATS_REPLICAS is %d; use 1 to %d, or 0 to follow the cluster's size", c.NATSReplicas, jetstream.MaxReplicas)
	case c.NATSReplicas > 1 && c.NATSURL == "":
		refuse("NATS_REPLICAS is %d and NATS_URL is empty; the in-process NATS is one server", c.NATSReplicas)
	}
	if d, err := time.ParseDuration(c.EventsMaxAge); c.EventsMaxAge != "" && (err != nil || d < time.Hour) {
		refuse("NATS_EVENTS_MAX_AGE is %q; use a duration of 1h or more, such as 720h, or leave it empty for no limit", c.EventsMaxAge)
	}
	if c.EventsMaxMB != 0 && (c.EventsMaxMB < 16 || c.EventsMaxMB > 1<<24) {
		refuse("NATS_EVENTS_MAX_MB is %d; use 16 to %d, or 0 for no limit", c.EventsMaxMB, 1<<24)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		refuse("LOG_FORMAT is %q; choose text or json", c.LogFormat)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); c.LogLevel != "" && err != nil {
		refuse("LOG_LEVEL is %q; choose debug, info, warn or error", c.LogLevel)
	}
	if d, err := time.ParseDuration(c.ShutdownGrace); c.ShutdownGrace != "" && (err != nil || d < 0 || d > time.Hour) {
		refuse("SHUTDOWN_GRACE is %q; use a duration such as 5s, or 0", c.ShutdownGrace)
	}
	if d, err := time.ParseDuration(c.IdleShortest); c.IdleShortest != "" && (err != nil || d < time.Second || d > idle.LongestAfter) {
		refuse("IDLE_SHORTEST is %q; use a duration from 1s to 168h, such as 5m", c.IdleShortest)
	}
	if c.AdminToken != "" && len(c.AdminToken) < adminTokenLength {
		refuse("ADMIN_TOKEN has %d characters; use %d or more", len(c.AdminToken), adminTokenLength)
	}
	if !c.LocalDevMode {
		if err := c.EC2.check(c.PublicURL, c.production()); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.checkPublic(), c.checkAgent(), c.checkMoney(), c.Payments.check(c.production()))
	return errors.Join(errs...)
}

// grace is how long a stopping server continues to answer, so that load balancers first see /ready fail.
func (c config) grace() time.Duration {
	if d, err := time.ParseDuration(c.ShutdownGrace); err == nil {
		return d
	}
	if c.production() {
		return 5 * time.Second
	}
	return 0
}

// idleShortest is the shortest idle limit that a user may set.
func (c config) idleShortest() time.Duration {
	if d, err := time.ParseDuration(c.IdleShortest); err == nil {
		return d
	}
	return 5 * time.Minute
}

func (c config) dir(name string) string { return filepath.Join(c.DataDir, name) }

// makeDataDir creates the data folder. Other users may pass through it, as the private Postgres' user must, but not list
// it. Secret files in it have their own permissions.
func (c config) makeDataDir() error {
	if err := os.MkdirAll(c.DataDir, 0o711); err != nil {
		return fmt.Errorf("create the data folder: %w; set DATA_DIR to a folder you may write to", err)
	}
	return nil
}

// fields splits a list at commas and spaces.
func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func (c config) machines() string {
	return cmp.Or(c.MachinesDir, c.dir("machines"))
}

// advertise returns the URL at which other replicas reach this one, which listens on port. It is never the public URL,
// because that may lead to any replica.
func (c config) advertise(port int) (string, error) {
	if c.Advertise != "" {
		return c.Advertise, nil
	}
	host := c.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() && c.NATSURL != "" {
		var err error
		if host, err = ownAddress(); err != nil {
			return "", err
		}
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// ownAddress returns this computer's first address that is not loopback.
func ownAddress() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("find this computer's address: %w", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("this computer has no address that other replicas can reach; set ADVERTISE_URL")
}
