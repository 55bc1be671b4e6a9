variable "tier" {
  description = "What the node is: edge, regional or global."
  type        = string
  nullable    = false
  validation {
    condition     = contains(["edge", "regional", "global"], var.tier)
    error_message = "tier is edge, regional or global."
  }
}

variable "place" {
  description = "Where the node stands: its jurisdiction, its region and its facility, as far as it has them."
  type = object({
    jurisdiction = optional(string)
    region       = optional(string)
    facility     = optional(string)
  })
  nullable = false
  # guard: place-names
  validation {
    condition     = alltrue([for name in [var.place.jurisdiction, var.place.region, var.place.facility] : name == null || can(regex(local.name_pattern, name))])
    error_message = "Names of places have 1 to 32 characters of a-z, 0-9 and '-', and begin with a letter."
  }
  # guard: place-of-the-tier
  validation {
    condition     = (var.tier == "global") == (var.place.region == null) && (var.tier == "edge") == (var.place.facility != null) && (var.place.region == null) == (var.place.jurisdiction == null)
    error_message = "An edge node has a jurisdiction, a region and a facility; a regional one a jurisdiction and a region; the global one nothing of these."
  }
}

variable "dirs" {
  description = "Absolute folders: config has the node's certificate and keys, which the node replaces itself, data is where it keeps its files, authority has what the certificate authority publishes (ca.pem, crl.pem, policy.pem, device-models.note)."
  type = object({
    config    = string
    data      = string
    authority = string
  })
  nullable = false
  # guard: folders
  validation {
    condition     = alltrue([for dir in values(var.dirs) : startswith(dir, "/") && !endswith(dir, "/")])
    error_message = "Folders are absolute and do not end with a slash."
  }
}

variable "listen" {
  description = "Addresses (IP:port): https of every node; grpc of a regional and the global node; metrics of a regional node without a token, where only the operator reaches it; mqtt of an edge."
  type = object({
    https   = string
    grpc    = optional(string)
    metrics = optional(string)
    mqtt    = optional(string)
  })
  nullable = false
  # guard: addresses
  validation {
    condition     = alltrue([for address in values(var.listen) : address == null || can(regex(local.address, address))])
    error_message = "An address is IP:port, such as 0.0.0.0:8443."
  }
  # guard: listeners-of-the-tier
  validation {
    condition     = (var.tier == "edge") == (var.listen.mqtt != null) && (var.tier == "edge") == (var.listen.grpc == null)
    error_message = "An edge listens for MQTT, the other nodes for gRPC."
  }
}

variable "public_url" {
  description = "https://host[:port] by which clients reach the node; the address that it listens on when left out."
  type        = string
  default     = null
  # guard: public-url
  validation {
    condition     = var.public_url == null || can(regex("^https://[a-z0-9.-]+(:[0-9]+)?$", var.public_url))
    error_message = "public_url is https://host[:port]."
  }
}

variable "uplink_url" {
  description = "https://host:port of the gRPC service that the node delivers to; none of the global node."
  type        = string
  default     = null
  # guard: uplink
  validation {
    condition     = (var.tier == "global") == (var.uplink_url == null) && (var.uplink_url == null || can(regex("^https://[a-z0-9.-]+:[0-9]+$", var.uplink_url)))
    error_message = "uplink_url is https://host:port, and every node but the global one has one."
  }
}

variable "postgres" {
  description = "Of a regional node: the file with its connection string, and the PEM file of the server's authority. An embedded store when left out."
  type        = object({ url_file = string, ca = optional(string) })
  default     = null
  # guard: postgres-of-a-region
  validation {
    condition     = var.postgres == null || var.tier == "regional"
    error_message = "Only a regional node has PostgreSQL."
  }
}

variable "pair" {
  description = "Of a regional node of two on one PostgreSQL: its name, https://host:port by which the other one and clients reach it, and where it reaches the other one: https://host:port of its HTTPS and of its gRPC. Alone when left out."
  type = object({
    node  = string
    https = optional(string)
    other = optional(object({ https = string, links = string }))
  })
  default = null
  # guard: pair-on-postgres
  validation {
    condition     = var.pair == null || (var.tier == "regional" && var.postgres != null)
    error_message = "Only a regional node on PostgreSQL can be one of two."
  }
  # guard: pair-name
  validation {
    condition     = var.pair == null || can(regex("^[a-z0-9-]{1,32}$", var.pair.node))
    error_message = "pair.node is 1 to 32 small letters, digits and dashes."
  }
  # guard: pair-addresses
  validation {
    condition     = alltrue([for url in [try(var.pair.https, null), try(var.pair.other.https, null), try(var.pair.other.links, null)] : url == null || can(regex("^https://[a-z0-9.-]+:[0-9]+$", url))])
    error_message = "The addresses of a pair are https://host:port."
  }
}

variable "enrolment" {
  description = "Of a regional node: the folder of an authority of its own, with its key, by which facilities join with a kit (`medmesh pki kit`). Of the global node: that of the authority by which its own certificate is renewed. A person carries requests and certificates when left out."
  type        = string
  default     = null
  # guard: authority-of-the-tier
  validation {
    condition     = var.enrolment == null || var.tier != "edge"
    error_message = "Facilities join at a regional node, and have no authority."
  }
  # guard: authority-folder
  validation {
    condition     = var.enrolment == null || can(regex("^/.*[^/]$", var.enrolment))
    error_message = "The authority's folder is absolute and does not end with a slash."
  }
  # guard: signer-beside-publication
  validation {
    condition     = var.local_mesh || var.enrolment == null || var.enrolment != var.dirs.authority
    error_message = "The authority that signs does not lie where its certificate and lists are published: every service of the machine reads those."
  }
}

variable "scylla" {
  description = "Of the global node: host:port of known nodes, the keyspace, and how many copies a new keyspace has. An embedded store when left out."
  type        = object({ nodes = list(string), keyspace = string, replication = number })
  default     = null
  # guard: scylla-of-the-global-node
  validation {
    condition     = var.scylla == null || var.tier == "global"
    error_message = "Only the global node has ScyllaDB."
  }
}

variable "disk" {
  description = "Of an edge node: the largest size of its store, what of it is kept for alarms, and how long receipted readings stay; as quantities of the mesh (64GiB, 30d)."
  type        = object({ max_size = string, alarm_reserve = string, retention = string })
  default     = { max_size = "4GiB", alarm_reserve = "64MiB", retention = "30d" }
  nullable    = false
  # guard: disk-quantities
  validation {
    condition     = can(regex("^[0-9]+[KMGT]iB$", var.disk.max_size)) && can(regex("^[0-9]+[KMGT]iB$", var.disk.alarm_reserve)) && can(regex("^[0-9]+[smhd]$", var.disk.retention))
    error_message = "Sizes are like 64GiB, the retention like 30d."
  }
}

variable "clients" {
  description = "Clients of the node's HTTPS interface (SMART Backend Services): id, key id, the PEM file of the public key, scopes."
  type        = list(object({ client_id = string, kid = string, public_key = string, scope = string }))
  default     = []
  nullable    = false
  # guard: clients-apart
  validation {
    condition     = length(distinct(var.clients[*].client_id)) == length(var.clients)
    error_message = "Two clients have one client_id."
  }
}

variable "devices" {
  description = "Devices of an edge: id, kind, and of a Modbus device its profile, its address and the bed where it stands."
  type = list(object({
    id       = string
    kind     = string
    model    = optional(string)
    firmware = optional(string)
    bed      = optional(string)
    profile  = optional(string)
    address  = optional(string)
    unit_id  = optional(number, 1)
  }))
  default  = []
  nullable = false
  # guard: device-kind
  validation {
    condition     = alltrue([for device in var.devices : contains(["bedside-monitor", "cold-chain", "lab-analyser", "external"], device.kind)])
    error_message = "A device's kind is bedside-monitor, cold-chain, lab-analyser or external."
  }
  # guard: devices-of-an-edge
  validation {
    condition     = length(var.devices) == 0 || var.tier == "edge"
    error_message = "Only an edge has devices."
  }
}

variable "simulated_beds" {
  description = "Beds with a simulated patient each, on one machine. In a facility the patients of its beds are its own staff's to write: they are identified data, which may be in no state of Terraform."
  type        = list(string)
  default     = []
  nullable    = false
  # guard: patients-in-state
  validation {
    condition     = length(var.simulated_beds) == 0 || var.local_mesh
    error_message = "Patients of beds may not pass through Terraform: only a mesh on one machine has simulated ones."
  }
}

variable "local_mesh" {
  description = "True only in a mesh on one machine."
  type        = bool
  default     = false
  nullable    = false
}
