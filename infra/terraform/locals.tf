locals {
  functions = ["ingest", "breaker", "enforcer", "warmup", "gate"]
  files     = { for name in local.functions : name => "${var.package}/functions/${var.architecture}/${name}.zip" }
  template  = "${var.package}/template.yaml"

  # In the keys, so that CloudFormation sees new code, and the code of the last deployment stays for a rollback.
  code_hash = sha256(join("", [for name in local.functions : filesha256(local.files[name])]))

  given = {
    MayPauseAccount     = var.may_pause_account
    Tenants             = var.tenants
    DedicatedIps        = var.dedicated_ips
    GateInUse           = var.gate_in_use
    HoldMail            = var.hold_mail
    EventBridgeSource   = var.event_bridge_source
    AlertEmail          = var.alert_email
    SilenceMinutes      = var.silence_minutes
    RunbookUrl          = var.runbook_url
    Architecture        = var.architecture
    MemoryMegabytes     = var.memory_megabytes
    IngestWindowSeconds = var.ingest_window_seconds
    FoldWindowSeconds   = var.fold_window_seconds
    IngestConcurrency   = var.ingest_concurrency
    ReserveConcurrency  = var.reserve_concurrency
    LogLevel            = var.log_level
    LogRetentionDays    = var.log_retention_days
    ProtectTables       = var.protect_tables
  }

  # What is not given is left to the template's defaults.
  parameters = merge(
    { for name, value in local.given : name => tostring(value) if value != null },
    { CodePrefix = "functions/${local.code_hash}/" }
  )
}
