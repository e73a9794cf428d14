# Bakes an AMI. Machines from it start with their desktop instead of installing it:
#
#   make build
#   packer init deploy/packer
#   packer build -var control_plane_url=https://cloud.example.org deploy/packer
#
# Then set UBUNTU_AMI_ID of the control plane to its id. Without Packer: start an Ubuntu 24.04 by hand, copy
# bin/cloudbot-guest to /usr/local/bin, run `sudo cloudbot-guest bake -control-plane URL`, and create an image from it.
# Bake again after you publish another OpenClaw: an image keeps the version it was baked with.

packer {
  required_plugins {
    amazon = {
      version = ">= 1.3.0"
      source  = "github.com/hashicorp/amazon"
    }
  }
}

variable "control_plane_url" {
  type        = string
  description = "The bake downloads OpenClaw and the wallpaper from its /assets/."
}

variable "guest" {
  type        = string
  default     = "bin/cloudbot-guest"
  description = "The guest program, for linux on the image's architecture."
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "instance_type" {
  type        = string
  default     = "t3.large"
  description = "An arm64 image needs an arm64 type, such as t4g.large."
}

variable "architecture" {
  type        = string
  default     = "amd64"
  description = "amd64 or arm64."
}

locals {
  built = formatdate("YYYYMMDD-hhmmss", timestamp())
}

source "amazon-ebs" "machine" {
  region        = var.region
  instance_type = var.instance_type
  ssh_username  = "ubuntu"
  ami_name      = "cloudbot-${var.architecture}-${local.built}"
  encrypt_boot  = true
  imds_support  = "v2.0"

  source_ami_filter {
    owners      = ["099720109477"] # Canonical
    most_recent = true
    filters = {
      name                = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-${var.architecture}-server-*"
      virtualization-type = "hvm"
    }
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_type           = "gp3"
    volume_size           = 30
    delete_on_termination = true
  }

  tags = {
    Name = "CloudBot machine ${local.built}"
  }
}

build {
  sources = ["source.amazon-ebs.machine"]

  provisioner "shell" {
    inline = ["cloud-init status --wait || true"]
  }

  provisioner "file" {
    source      = var.guest
    destination = "/tmp/cloudbot-guest"
  }

  provisioner "shell" {
    environment_vars = ["CONTROL_PLANE_URL=${var.control_plane_url}"]
    inline = [
      "sudo install -m 755 /tmp/cloudbot-guest /usr/local/bin/cloudbot-guest",
      "rm /tmp/cloudbot-guest",
      "sudo cloudbot-guest bake -control-plane \"$CONTROL_PLANE_URL\"",
    ]
  }
}
