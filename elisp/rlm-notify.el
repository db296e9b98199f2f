;;; rlm-notify.el --- Word of runs that end out of sight  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.


;;; Commentary:

;; When a run that took long ends while its buffer is not to be seen, or its
;; code waits for someone, the desktop says so, where D-Bus has one that
;; listens, else the echo area.

;;; Code:

(require 'subr-x)
(require 'rlm)
(require 'rlm-run)

(declare-function notifications-notify "notifications" (&rest params))
(declare-function dbus-list-known-names "dbus" (bus))

(defcustom rlm-notify-seconds 30
  "Seconds from which a run is long, so that its end is worth a notification.
There is none while its buffer is to be seen.  Nil means never, and that
code which waits for approval is not told either."
  :group 'rlm
  :type '(choice (const :tag "Never" nil) rlm-amount)
  :package-version '(rlm . "0.1.0"))

(defun rlm-notify (run buffer)
  "Say that RUN of BUFFER has ended, if that is worth a notification."
  (when (and rlm-notify-seconds
             (>= (or (rlm-run-seconds run) 0) rlm-notify-seconds))
    (rlm-notify--say (pcase (rlm-run-status run)
                       ("done" "Answered")
                       ("limit" "Stopped by a limit")
                       (status (capitalize status)))
                     run buffer)))

(defun rlm-notify-waiting (run buffer)
  "Say that code of RUN waits in BUFFER until someone decides about it."
  (when rlm-notify-seconds
    (rlm-notify--say "Code waits for you" run buffer)))

(defun rlm-notify--say (title run buffer)
  "Say TITLE of RUN, unless its BUFFER is to be seen."
  (unless (rlm-notify--seen-p buffer)
    (let ((question (rlm-run-question run)))
      (unless (rlm-notify--desktop title question buffer)
        (message "rlm: %s: %s (%s)" title question (buffer-name buffer))))))

(defun rlm-notify--seen-p (buffer)
  "Return non-nil if BUFFER is shown in a frame that has the focus or may have it."
  (when-let ((window (get-buffer-window buffer 'visible)))
    (not (eq (frame-focus-state (window-frame window)) nil))))

(defun rlm-notify--desktop (title body buffer)
  "Let the desktop show TITLE and BODY; return nil if there is none to do so.
A click on it shows BUFFER."
  (and (featurep 'dbusbind)
       (require 'notifications nil t)
       (getenv "DBUS_SESSION_BUS_ADDRESS")
       (condition-case nil
           (notifications-notify
            :app-name "rlm" :title (concat "rlm: " title)
            :body (rlm-notify--escaped body)
            :actions '("default" "Show")
            :on-action (lambda (&rest _)
                         (when (buffer-live-p buffer)
                           (pop-to-buffer buffer)
                           (select-frame-set-input-focus (selected-frame)))))
         (error nil))))

(defun rlm-notify--escaped (text)
  "Return TEXT without what a desktop might take for markup."
  (replace-regexp-in-string
   "[&<>]" (lambda (sign) (pcase sign ("&" "&amp;") ("<" "&lt;") (_ "&gt;"))) text t t))

(provide 'rlm-notify)
;;; rlm-notify.el ends here
