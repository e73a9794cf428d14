// Package s3 has assets in an S3 bucket. It implements assets.Source by streaming: machines need no
// way to the bucket, and no rights on it. As an assets.Keeper it needs the right to put objects.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// Config names the bucket. Credentials and region come from where the SDK looks for them.
type Config struct {
	Bucket      string
	Prefix      string                  // of the objects' keys, without a slash at its end; "": none
	Region      string                  // "": the SDK's
	Endpoint    string                  // "": AWS; another one is addressed by path
	Remember    time.Duration           // how long what is known of an object is taken as true; 0: 10 s
	credentials aws.CredentialsProvider // nil: the SDK's
}

// Bucket is a bucket with assets.
type Bucket struct {
	c      Config
	client *s3.Client

	mu    sync.Mutex
	known map[string]object
}

// object is what a HEAD said.
type object struct {
	size     int64
	modified time.Time
	tag, sum string
	err      error // fs.ErrNotExist, or nil
	asked    time.Time
}

// Parse reads "s3://bucket/prefix".
func Parse(place string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(place, "s3://")
	bucket, prefix, _ = strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	if !ok || bucket == "" {
		return "", "", fmt.Errorf("%q is not of the form s3://bucket/prefix", place)
	}
	return bucket, prefix, nil
}

// New returns a bucket. It calls nobody.
func New(ctx context.Context, c Config) (*Bucket, error) {
	if c.Bucket == "" {
		return nil, errors.New("open a bucket of assets: it has no name")
	}
	if c.Remember == 0 {
		c.Remember = 10 * time.Second
	}
	var options []func(*awsconfig.LoadOptions) error
	if c.Region != "" {
		options = append(options, awsconfig.WithRegion(c.Region))
	}
	if c.credentials != nil {
		options = append(options, awsconfig.WithCredentialsProvider(c.credentials))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", c.Bucket, err)
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = aws.String(c.Endpoint), true
		}
	})
	return &Bucket{c: c, client: client, known: map[string]object{}}, nil
}

func (b *Bucket) key(name string) *string {
	if b.c.Prefix != "" {
		name = b.c.Prefix + "/" + name
	}
	return aws.String(name)
}

// maxKnown bounds the memory for names that anybody may ask for.
const maxKnown = 1000

// Stat implements assets.Source. The sha256 is the one in the object's metadata, "" without.
func (b *Bucket) Stat(ctx context.Context, name string) (int64, time.Time, string, string, error) {
	b.mu.Lock()
	o, ok := b.known[name]
	b.mu.Unlock()
	if !ok || time.Since(o.asked) > b.c.Remember {
		var err error
		if o, err = b.head(ctx, name); err != nil {
			return 0, time.Time{}, "", "", err
		}
		b.mu.Lock()
		if len(b.known) >= maxKnown {
			clear(b.known)
		}
		b.known[name] = o
		b.mu.Unlock()
	}
	return o.size, o.modified, o.tag, o.sum, o.err
}

func (b *Bucket) head(ctx context.Context, name string) (object, error) {
	now := time.Now()
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.c.Bucket, Key: b.key(name)})
	switch {
	case missing(err):
		return object{err: fmt.Errorf("%s: %w", name, fs.ErrNotExist), asked: now}, nil
	case err != nil:
		return object{}, fmt.Errorf("look up %s in bucket %s: %w", name, b.c.Bucket, err)
	}
	o := object{size: aws.ToInt64(out.ContentLength), modified: aws.ToTime(out.LastModified), tag: aws.ToString(out.ETag), asked: now}
	for key, value := range out.Metadata {
		if strings.EqualFold(key, "sha256") && len(value) == 64 {
			o.sum = strings.ToLower(value)
		}
	}
	return o, nil
}

// Open implements assets.Source.
func (b *Bucket) Open(ctx context.Context, name, tag string, offset int64) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &b.c.Bucket, Key: b.key(name), IfMatch: aws.String(tag)}
	if offset > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		b.mu.Lock()
		delete(b.known, name) // it changed, maybe
		b.mu.Unlock()
		return nil, fmt.Errorf("read %s in bucket %s: %w", name, b.c.Bucket, err)
	}
	if tag != aws.ToString(out.ETag) { // a store that knows no If-Match
		out.Body.Close()
		return nil, fmt.Errorf("read %s in bucket %s: it changed meanwhile", name, b.c.Bucket)
	}
	return out.Body, nil
}

// Put implements assets.Keeper.
func (b *Bucket) Put(ctx context.Context, name, sha256 string, content io.Reader) error {
	text, err := io.ReadAll(content) // a signed request has to be read twice
	if err == nil {
		_, err = b.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &b.c.Bucket, Key: b.key(name), Body: bytes.NewReader(text), Metadata: map[string]string{"sha256": sha256},
		})
	}
	if err != nil {
		return fmt.Errorf("put %s into bucket %s: %w", name, b.c.Bucket, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, name)
	return nil
}

func missing(err error) bool {
	var key *types.NoSuchKey
	var api smithy.APIError
	return errors.As(err, &key) || errors.As(err, &api) && (api.ErrorCode() == "NotFound" || api.ErrorCode() == "NoSuchKey")
}
