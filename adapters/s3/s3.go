// Package s3 serves assets from an S3 bucket. It implements assets.Source by streaming, so machines need no
// network path to the bucket and no rights on it. As an assets.Keeper it needs the right to put objects.
//
// The one thing to know: without s3:ListBucket, S3 answers 403 for a missing object. So a 403 counts as
// missing, except for an object that was seen before.
package s3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// Config names the bucket. Credentials come from the SDK's usual sources.
type Config struct {
	Bucket      string
	Prefix      string                  // of the objects' keys, without a slash at its end; "": none
	Region      string                  // where to ask first; "": the SDK's. S3 answers with the bucket's real region
	Endpoint    string                  // "": AWS; any other is addressed by path
	Remember    time.Duration           // how long the answer to a HEAD is cached; 0: 10 s
	Logger      *slog.Logger            // nil: silent
	credentials aws.CredentialsProvider // nil: the SDK's
	patience    time.Duration           // for a HEAD with its retries; 0: 20 s
}

// Bucket is a bucket with assets.
type Bucket struct {
	c      Config
	client *s3.Client

	mu     sync.Mutex
	known  map[string]object
	region string    // the bucket's, if S3 named another than the configured one
	said   sync.Once // the warning of missing rights
}

// object is the answer to a HEAD.
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

// New returns a bucket. It makes no network call.
func New(ctx context.Context, c Config) (*Bucket, error) {
	if c.Bucket == "" {
		return nil, errors.New("open a bucket of assets: no name given")
	}
	c.Remember = cmp.Or(c.Remember, 10*time.Second)
	c.patience = cmp.Or(c.patience, 20*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	// A body may take long, but the answer must begin soon.
	answers := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = answerTime })
	options := []func(*awsconfig.LoadOptions) error{awsconfig.WithHTTPClient(answers)}
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
	// The SDK retries: three attempts for each call. All calls share a budget of 35 retries, which successes
	// refill. When it is spent, a call fails immediately and its caller tries again later.
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

// maxKnown bounds the memory for names, since any client can request them.
const maxKnown = 1000

// Stat implements assets.Source. The sha256 comes from the object's metadata; "": it has none.
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

// answerTime bounds the wait for the beginning of S3's answer.
const answerTime = 10 * time.Second

func (b *Bucket) head(ctx context.Context, name string) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, b.c.patience)
	defer cancel()
	now := time.Now()
	out, err := ask(ctx, b, b.client.HeadObject, &s3.HeadObjectInput{Bucket: &b.c.Bucket, Key: b.key(name)})
	switch {
	case missing(err) || forbidden(err) && !b.seen(name):
		b.warnForbidden(err)
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
	out, err := ask(ctx, b, b.client.GetObject, in)
	if err != nil {
		if !forbidden(err) { // on a 403 the object still counts as existing
			b.mu.Lock()
			delete(b.known, name) // it may have changed
			b.mu.Unlock()
		}
		if missing(err) || forbidden(err) {
			b.warnForbidden(err)
			err = errors.Join(err, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("read %s in bucket %s: %w", name, b.c.Bucket, err)
	}
	if tag != aws.ToString(out.ETag) { // a store without If-Match
		out.Body.Close()
		return nil, fmt.Errorf("read %s in bucket %s: it changed while it was read", name, b.c.Bucket)
	}
	return out.Body, nil
}

// Put implements assets.Keeper.
func (b *Bucket) Put(ctx context.Context, name, sha256 string, content io.Reader) error {
	text, err := io.ReadAll(content) // a signed request reads its body twice
	if err == nil {
		put := func(ctx context.Context, in *s3.PutObjectInput, options ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
			in.Body = bytes.NewReader(text) // from the beginning each time
			return b.client.PutObject(ctx, in, options...)
		}
		_, err = ask(ctx, b, put, &s3.PutObjectInput{Bucket: &b.c.Bucket, Key: b.key(name), Metadata: map[string]string{"sha256": sha256}})
	}
	if err != nil {
		return fmt.Errorf("put %s into bucket %s: %w", name, b.c.Bucket, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.known, name)
	return nil
}

// seen reports whether the object existed when it was last looked up. If so, a 403 means wrong credentials.
func (b *Bucket) seen(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.known[name]
	return ok && o.err == nil
}

// warnForbidden logs once what a 403 may mean.
func (b *Bucket) warnForbidden(err error) {
	if forbidden(err) {
		b.said.Do(func() {
			b.c.Logger.Warn("S3 answered 403 for an asset, which counts as missing: grant this server s3:ListBucket on the bucket, so that S3 "+
				"reports missing objects, and s3:GetObject on its objects (deploy/iam-policy.json), or correct its credentials", "bucket", b.c.Bucket, "err", err)
		})
	}
}

// ask makes a call in the bucket's region, which S3 names when it is called in another one.
func ask[In, Out any](ctx context.Context, b *Bucket, call func(context.Context, In, ...func(*s3.Options)) (Out, error), in In) (Out, error) {
	b.mu.Lock()
	region := b.region
	b.mu.Unlock()
	there := func(o *s3.Options) { o.Region = cmp.Or(region, o.Region) }
	out, err := call(ctx, in, there)
	if !elsewhere(err) {
		return out, err
	}
	named := regionOf(err)
	if named == "" { // the refusal of an object's HEAD may not name the region
		_, bucketErr := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.c.Bucket}, there)
		named = regionOf(bucketErr)
	}
	if named == "" || named == region {
		return out, err
	}
	region = named
	if out, err = call(ctx, in, there); !elsewhere(err) {
		b.mu.Lock()
		b.region = named
		b.mu.Unlock()
		b.c.Logger.Info("bucket of assets found in another region than AWS_REGION", "bucket", b.c.Bucket, "region", named)
	}
	return out, err
}

// elsewhere reports whether a refusal may be due to the wrong region.
func elsewhere(err error) bool {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	status := response.HTTPStatusCode()
	return status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect || status == http.StatusBadRequest
}

// regionOf returns the bucket's region as named in a refusal.
func regionOf(err error) string {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil {
		return ""
	}
	return response.Response.Header.Get("X-Amz-Bucket-Region")
}

func missing(err error) bool {
	var key *types.NoSuchKey
	var api smithy.APIError
	return errors.As(err, &key) || errors.As(err, &api) && (api.ErrorCode() == "NotFound" || api.ErrorCode() == "NoSuchKey")
}

func forbidden(err error) bool {
	var response *awshttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() == http.StatusForbidden
}

// String names the bucket, for people.
func (b *Bucket) String() string { return strings.TrimSuffix("s3://"+b.c.Bucket+"/"+b.c.Prefix, "/") }
