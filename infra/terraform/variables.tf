variable "package" {
  description = "The folder share/ses-breaker of the installed package, with template.yaml and functions/."
  type        = string

  validation {
    condition     = fileexists("${var.package}/template.yaml")
    error_message = "There is no template.yaml in this folder: name share/ses-breaker of an installed package."
  }
}

variable "name" {
  description = "The name of the stack. Names of all its resources begin with it."
  type        = string
  default     = "ses-breaker"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "Must begin with a lower-case letter and have at most 31 lower-case letters, digits and hyphens."
  }
}

variable "tags" {
  description = "Tags of the bucket and the stack. CloudFormation gives them to the stack's resources."
  type        = map(string)
  default     = {}
}

# The parameters of the template. null: the template's default applies. The ranges are those of the template; a test compares them.

variable "may_pause_account" {
  description = "Lets the enforcer stop and resume the account. The policy must ask for it, too."
  type        = bool
  default     = null
}

variable "tenants" {
  description = "Lets the enforcer read, stop and resume SES tenants."
  type        = bool
  default     = null
}

variable "dedicated_ips" {
  description = "Lets the enforcer read and set the warm-up percentage of standard dedicated IPs."
  type        = bool
  default     = null
}

variable "gate_in_use" {
  description = "Whether your application asks the gate before it sends."
  type        = bool
  default     = null
}

variable "hold_mail" {
  description = "Whether relays hold mail that may not go now. If so, there is a bucket for it."
  type        = bool
  default     = null
}

variable "event_bridge_source" {
  description = "Also take events from EventBridge."
  type        = bool
  default     = null
}

variable "alert_email" {
  description = "Gets every alert, once its owner has confirmed the subscription."
  type        = string
  default     = null

  validation {
    condition     = var.alert_email == null ? true : can(regex("^$|^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "Must be empty or an e-mail address."
  }
}

variable "silence_minutes" {
  description = "Alarm when no event has come for this number of minutes. 0 turns it off."
  type        = number
  default     = null

  validation {
    condition     = var.silence_minutes == null ? true : var.silence_minutes >= 0 && var.silence_minutes <= 1440
    error_message = "Must be from 0 to 1440."
  }
}

variable "runbook_url" {
  description = "Where your people read the runbook."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_url == null ? true : can(regex("^$|^https?://[!-~]{1,200}$", var.runbook_url))
    error_message = "Must be empty or an address that begins with https://."
  }
}

variable "architecture" {
  description = "The processor of the functions. Chooses the code in the package, too."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Must be arm64 or x86_64."
  }
}

variable "memory_megabytes" {
  description = "Memory of each function, in MB."
  type        = number
  default     = null

  validation {
    condition     = var.memory_megabytes == null ? true : var.memory_megabytes >= 128 && var.memory_megabytes <= 10240
    error_message = "Must be from 128 to 10240."
  }
}

variable "ingest_window_seconds" {
  description = "How long ingest gathers events."
  type        = number
  default     = null

  validation {
    condition     = var.ingest_window_seconds == null ? true : var.ingest_window_seconds >= 1 && var.ingest_window_seconds <= 60
    error_message = "Must be from 1 to 60."
  }
}

variable "fold_window_seconds" {
  description = "How long the breaker gathers units."
  type        = number
  default     = null

  validation {
    condition     = var.fold_window_seconds == null ? true : var.fold_window_seconds >= 0 && var.fold_window_seconds <= 300
    error_message = "Must be from 0 to 300."
  }
}

variable "ingest_concurrency" {
  description = "The highest number of concurrent ingests."
  type        = number
  default     = null

  validation {
    condition     = var.ingest_concurrency == null ? true : var.ingest_concurrency >= 2 && var.ingest_concurrency <= 1000
    error_message = "Must be from 2 to 1000."
  }
}

variable "reserve_concurrency" {
  description = "Reserve a concurrency of 1 for the enforcer. false in a new account whose concurrency limit is 10."
  type        = bool
  default     = null
}

variable "log_level" {
  description = "What the functions log."
  type        = string
  default     = null

  validation {
    condition     = var.log_level == null ? true : contains(["error", "warn", "info", "debug", "trace"], var.log_level)
    error_message = "Must be error, warn, info, debug or trace."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = null

  validation {
    condition = var.log_retention_days == null ? true : contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "Must be a number of days that CloudWatch Logs knows, such as 30 or 365."
  }
}

variable "protect_tables" {
  description = "Refuse the deletion of the two tables."
  type        = bool
  default     = null
}
