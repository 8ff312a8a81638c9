package org.example.plugin;

/** Messages first to next - 1 of a partition are gone: nobody fetched them within the plugin's retention. */
public record Gap(long partition, long first, long next) {}
