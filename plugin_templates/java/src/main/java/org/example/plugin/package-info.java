/** The part of the template that need not be changed: settings, registration, connection, typed messages. */
package org.example.plugin;
